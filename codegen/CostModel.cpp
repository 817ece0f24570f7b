//===- CostModel.cpp - Predicted time of a schedule -----------------------===//

#include "codegen/CostModel.h"

#include "heddle/runtime.h"

#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"

#include <algorithm>
#include <cmath>

namespace json = llvm::json;

namespace heddle {

MachineModel MachineModel::load(const std::string &type) {
  MachineModel model;
  model.seconds = usualSeconds(type);
  const char *folder = heddle_cache_path();
  if (!folder || !*folder) {
    return model;
  }
  auto file = llvm::MemoryBuffer::getFile(std::string(folder) + "/machine.json");
  if (!file) {
    return model;
  }
  auto parsed = json::parse((*file)->getBuffer());
  if (!parsed) {
    llvm::consumeError(parsed.takeError());
    return model;
  }
  const json::Object *all = parsed->getAsObject();
  const json::Object *own = all ? all->getObject(type) : nullptr;
  // Constants of another machine, as in a copied folder, are worth no more than the usual ones.
  if (!own || all->getString("features").value_or("") != heddle_host_features()) {
    return model;
  }
  for (size_t n = 0; n < kWorkKinds; ++n) {
    const double seconds = own->getNumber(nameOf(static_cast<Work>(n))).value_or(model.seconds[n]);
    if (!std::isfinite(seconds) || seconds < 0) {
      return model;
    }
    model.seconds[n] = seconds;
  }
  model.bandwidth = all->getNumber("bandwidth").value_or(model.bandwidth);
  model.sharedBandwidth = all->getNumber("shared_bandwidth").value_or(model.sharedBandwidth);
  model.threadShare = all->getNumber("thread_share").value_or(model.threadShare);
  model.measured = true;
  return model;
}

double MachineModel::computeSeconds(const WorkAmounts &w, int64_t threads, double tasks) const {
  double total = 0;
  for (size_t n = 0; n + 1 < kWorkKinds; ++n) {
    total += w.amounts[n] * seconds[n];
  }
  const double launch = w[Work::Calls] * seconds.back();
  if (threads <= 1 || tasks <= 1) {
    return total + launch;
  }
  const double used = std::min(static_cast<double>(threads), tasks);
  return total / (used * threadShare) + launch;
}

double MachineModel::memorySeconds(double bytes, int64_t threads) const {
  return bytes / (threads <= 1 ? bandwidth : std::max(sharedBandwidth, bandwidth));
}

} // namespace heddle
