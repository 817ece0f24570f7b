//===- ExplainedGpu.cpp - The kernels of a GPU target ---------------------===//

#include "tools/ExplainedGpu.h"

#include "tools/Artifact.h"

using nlohmann::json;

namespace heddle::tools {

/// Appends what an artefact, or each kernel of a program, has to say.
static void collect(const Artifact &artifact, json &out) {
  json manifest = json::parse(artifact.manifest());
  if (!manifest.contains("kernels")) {
    out.push_back({{"name", manifest.value("name", "")}, {"gpu", manifest["gpu"]}});
    return;
  }
  std::string rest = artifact.object();
  for (const json &bytes : manifest["kernels"]) {
    collect(Artifact(rest.substr(0, bytes.get<size_t>())), out);
    rest.erase(0, bytes.get<size_t>());
  }
}

json gpuKernels(const Spec &spec, const std::string &target) {
  if (target.rfind("sm_", 0) != 0) {
    throw Failure(2, "expected --target with a GPU (sm_80, sm_90a, ...), but got '" + target + "'");
  }
  json out = json::array();
  collect(compileSpec(spec, target), out);
  return out;
}

static std::string line(const json &kernel, const std::string &kind) {
  std::string out = "    " + kernel["name"].get<std::string>() + ": " + kind;
  auto number = [&](const char *key) { return std::to_string(kernel[key].get<int64_t>()); };
  if (kernel.contains("rows")) {
    out += ", " + number("rows") + " queries by " + number("keys") + " keys, " + number("stages") + " stages";
    out += ", " + number("columns") + " columns of v";
    out += kernel.contains("tiles_from_end") ? ", last tiles first" : "";
  }
  out += ", " + number("threads") + " threads, " + number("shared_bytes") + " bytes of shared memory";
  if (kernel.contains("registers")) {
    int64_t spilled = kernel["spill_bytes"].get<int64_t>();
    out += ", " + number("registers") + " registers, " +
           (spilled > 0 ? std::to_string(spilled) + " bytes spilled" : std::string("no spills"));
  }
  return out + "\n";
}

std::string gpuWords(const json &kernels, const std::string &target) {
  std::string out = "kernels for " + target + "\n";
  bool assembled = true;
  for (const json &one : kernels) {
    const json &gpu = one["gpu"];
    out += "  @" + one["name"].get<std::string>() + "\n";
    assembled &= gpu["cubin_bytes"].get<int64_t>() > 0;
    if (gpu.contains("tensor_kernels")) {
      out +=
          "    tensor copies and wgmma where every tensor map can be made, heads do not share a tile and keys are not "
          "split; mma.sync elsewhere\n";
    } else if (gpu.contains("no_tensor_kernels")) {
      out += "    no kernel on tensor copies: " + gpu["no_tensor_kernels"].get<std::string>() + "\n";
    }
    for (const json &kernel : gpu.value("tensor_kernels", json::array())) {
      out += line(kernel, "tensor copies, wgmma");
    }
    for (const json &kernel : gpu["kernels"]) {
      bool merges = kernel.contains("merge"), tasks = kernel.contains("max_blocks");
      out += line(kernel, merges  ? "merges splits of the keys"
                          : tasks ? "an op on whole tensors"
                                  : "cp.async, mma.sync");
    }
  }
  return assembled ? out : out + "  (registers and spills: where ptxas is in PATH, or HEDDLE_PTXAS)\n";
}

} // namespace heddle::tools
