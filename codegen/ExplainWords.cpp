//===- ExplainWords.cpp - The facts on a spec's cost in words -------------===//

#include "codegen/ExplainWords.h"

#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

#include <optional>

namespace json = llvm::json;

namespace heddle {

namespace {

std::string grouped(double value) {
  std::string digits;
  llvm::raw_string_ostream(digits) << llvm::format("%.0f", value);
  for (size_t at = digits.size(); at > 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

std::string percent(double part, double whole) {
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("%.3g %%", whole > 0 ? 100 * part / whole : 0.0);
  return text;
}

std::string scaled(double value, llvm::StringRef unit) {
  const char *prefixes[] = {"", "k", "M", "G", "T", "P"};
  int n = 0;
  for (; value >= 1000 && n < 5; ++n) {
    value /= 1000;
  }
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("%.3g ", value) << prefixes[n] << unit;
  return text;
}

std::string inSeconds(double s) {
  std::string text;
  const double scale = s < 1e-3 ? 1e6 : s < 1 ? 1e3 : 1;
  llvm::raw_string_ostream(text) << llvm::format("%.3g ", s * scale) << (s < 1e-3 ? "us" : s < 1 ? "ms" : "s");
  return text;
}

/// The predicted time, what it is made of, the measured time, and whether a dense kernel would be faster.
void writeTime(llvm::raw_ostream &os, const json::Object &time) {
  std::optional<double> measured = time.getNumber("measured_seconds"), predicted = time.getNumber("predicted_seconds");
  if (predicted) {
    os << "  predicted  " << inSeconds(*predicted) << " on " << *time.getInteger("threads") << " threads: compute "
       << inSeconds(*time.getNumber("compute_seconds")) << ", memory " << inSeconds(*time.getNumber("memory_seconds"))
       << (*time.getString("machine") == "measured" ? "\n" : " (constants of a usual machine)\n");
  }
  if (measured) {
    os << "  measured   " << inSeconds(*measured);
    if (predicted && *measured > 0) {
      os << ", of which " << percent(*predicted, *measured) << " was predicted";
    }
    os << "\n";
  }
  if (predicted) {
    const double dense = *time.getNumber("dense_seconds");
    os << "  dense      " << inSeconds(dense) << " predicted without the pattern"
       << (dense < *predicted ? ": dense attention would be faster\n" : "\n");
  }
}

std::string joined(const json::Array *items, llvm::StringRef separator, llvm::StringRef otherwise) {
  std::string text;
  for (const json::Value &item : *items) {
    text += (text.empty() ? "" : separator.str()) +
            (item.getAsString() ? item.getAsString()->str() : std::to_string(item.getAsInteger().value_or(0)));
  }
  return text.empty() ? otherwise.str() : text;
}

std::string interval(const json::Object &o) {
  const json::Array *lower = o.getArray("lower"), *upper = o.getArray("upper");
  if (lower->empty() && upper->empty()) {
    return "all";
  }
  std::string lo = joined(lower, ", ", "-inf"), hi = joined(upper, ", ", "inf");
  return "[" + (lower->size() > 1 ? "max(" + lo + ")" : lo) + ", " + (upper->size() > 1 ? "min(" + hi + ")" : hi) + ")";
}

/// "64 queries", "8 x 8 queries of digits 32, 1"
std::string queryTile(const json::Array &digits) {
  std::string tiles, radices;
  for (const json::Value &value : digits) {
    const json::Object &digit = *value.getAsObject();
    tiles += (tiles.empty() ? "" : " x ") + std::to_string(*digit.getInteger("tile"));
    radices += (radices.empty() ? "" : ", ") + std::to_string(*digit.getInteger("radix"));
  }
  return tiles + (digits.size() > 1 ? " (digits of radix " + radices + ")" : "");
}

/// Where queries of several heads are lanes of one tile.
void writeHeads(llvm::raw_ostream &os, const json::Object &schedule) {
  const int64_t together = schedule.getInteger("heads_per_tile").value_or(1);
  const json::Array &tables = *schedule.getArray("head_tables");
  if (together > 1) {
    os << "  heads      " << together << " share a tile\n";
  } else if (!tables.empty()) {
    os << "  heads      with the same keys share a tile where they are alike in " << joined(&tables, ", ", "") << "\n";
  }
}

/// A program's ops in order.
void writeOps(llvm::raw_ostream &os, const json::Array &ops, const json::Array &kernels, const json::Array &remarks) {
  os << "a program of " << ops.size() << (ops.size() == 1 ? " op" : " ops");
  if (!kernels.empty()) {
    os << ", " << kernels.size() << (kernels.size() == 1 ? " kernel" : " kernels") << " on a CPU";
  }
  os << "; what lies between kernels goes through memory\n";
  for (const json::Value &value : ops) {
    const json::Object &one = *value.getAsObject();
    os << "  " << llvm::left_justify(*one.getString("op"), 20) << " -> " << joined(one.getArray("types"), ", ", "");
    if (std::optional<double> bytes = one.getNumber("bytes")) {
      os << "  ";
      if (std::optional<double> flops = one.getNumber("flops"); flops && *flops > 0) {
        os << scaled(*flops, "FLOP") << ", ";
      }
      os << scaled(*bytes, "B");
      if (std::optional<double> seconds = one.getNumber("predicted_seconds")) {
        os << ", " << inSeconds(*seconds);
      }
    }
    os << "\n";
  }
  for (const json::Value &kernel : kernels) {
    if (kernel.getAsArray()->size() > 1) {
      os << "  one kernel: " << joined(kernel.getAsArray(), ", ", "") << "\n";
    }
  }
  for (const json::Value &remark : remarks) {
    os << "  " << remark.getAsString()->str() << "\n";
  }
  os << "\n";
}

void writeStratum(llvm::raw_ostream &os, const json::Object &s, size_t number) {
  os << "  stratum " << number << ": " << *s.getString("kind");
  if (s.getArray("heads")) {
    os << ", heads " << joined(s.getArray("heads"), ", ", "") << " mod " << *s.getInteger("head_period");
  }
  const bool byRow = s.getBoolean("by_row").value_or(false);
  os << (byRow ? "\n    queries       one at a time, each with its own keys"
               : "\n    query tile    " + queryTile(*s.getArray("query_digits")))
     << (s.getBoolean("scans").value_or(false) ? "; queries with few scattered keys by themselves: they try all" : "")
     << "\n";
  const json::Array &digits = *s.getArray("key_digits");
  bool bounded = !s.getArray("lower")->empty() || !s.getArray("upper")->empty();
  bool printed = false;
  for (const json::Value &value : digits) {
    const json::Object &digit = *value.getAsObject();
    bool open = digit.getArray("lower")->empty() && digit.getArray("upper")->empty();
    if (open && bounded && digits.size() == 1 && *digit.getInteger("step") == 1) {
      continue; // the interval below says it all
    }
    printed = true;
    os << "    keys          ";
    if (digits.size() > 1 || *digit.getInteger("radix") != 1) {
      os << "digit of radix " << *digit.getInteger("radix") << " in ";
    }
    os << interval(digit);
    if (*digit.getInteger("step") != 1) {
      os << " step " << *digit.getInteger("step") << " from " << digit.getString("phase").value_or("0");
    }
    os << "\n";
  }
  if (bounded) {
    os << (printed ? "    and           j in " : "    keys          j in ") << interval(s) << "\n";
  }
  for (auto [label, field] :
       {std::pair("only queries", "guard"), std::pair("only keys", "keep"), std::pair("mask per pair", "residual")}) {
    if (auto condition = s.getString(field)) {
      os << "    " << llvm::format("%-13s", label) << " " << *condition << "\n";
    }
  }
  if (std::optional<double> live = s.getNumber("live_pairs")) {
    double executed = *s.getNumber("executed_pairs");
    const json::Object &tiles = *s.getObject("tiles");
    os << "    live pairs    " << grouped(*live) << "; executed "
       << (s.getBoolean("executed_at_least").value_or(false) ? "at least " : "") << grouped(executed) << ", "
       << percent(*s.getNumber("unmasked_pairs"), executed) << " of them without a mask\n";
    if (!byRow) {
      os << "    tiles         " << grouped(*tiles.getNumber("full")) << " full, "
         << grouped(*tiles.getNumber("partial")) << " partial\n";
    }
  }
  if (std::optional<double> predicted = s.getNumber("predicted_seconds")) {
    os << "    predicted     " << inSeconds(*predicted) << " of one thread";
    if (std::optional<double> tiles = s.getNumber("tiles_seconds")) {
      os << "; as tiles " << inSeconds(*tiles);
    }
    os << "\n";
  }
  if (!s.getString("note")->empty()) {
    os << "    note          " << *s.getString("note") << "\n";
  }
}

void writeSegment(llvm::raw_ostream &os, const json::Object &segment, size_t number) {
  os << "\nsegment " << number << ": " << *segment.getString("pattern") << "\n";
  if (*segment.getBoolean("score_region")) {
    os << "  scores by a region on " << *segment.getInteger("dots") << " dots\n";
  }
  double pairs = *segment.getNumber("pairs");
  if (std::optional<double> live = segment.getNumber("live_pairs")) {
    os << "  live pairs " << (*segment.getBoolean("exact") ? "" : "about ") << grouped(*live) << " of "
       << grouped(pairs) << " (" << percent(*live, pairs) << ")\n";
  } else {
    os << "  live pairs depend on the values of " << joined(segment.getArray("depends_on"), ", ", "?") << ", of "
       << grouped(pairs) << " pairs\n";
  }
  size_t n = 0;
  for (const json::Value &s : *segment.getArray("strata")) {
    writeStratum(os, *s.getAsObject(), n++);
  }
  if (n == 0) {
    os << "  no strata: no pair is live\n";
  }
}

} // namespace

std::string inWords(const json::Object &facts) {
  std::string text;
  llvm::raw_string_ostream os(text);
  if (const json::Array *ops = facts.getArray("ops")) {
    writeOps(os, *ops, *facts.getArray("kernels"), *facts.getArray("remarks"));
  }
  if (!facts.getArray("segments")) {
    return text; // no attention over pairs
  }
  os << "@" << *facts.getString("function") << "  " << *facts.getString("dtype") << " ";
  const json::Object &sizes = *facts.getObject("sizes");
  for (llvm::StringRef name : {"b", "h", "nq"}) {
    os << " " << name << "=" << *sizes.getInteger(name);
  }
  const json::Array &segments = *facts.getArray("segments");
  for (size_t g = 0; g < segments.size(); ++g) {
    os << " nk" << (segments.size() > 1 ? std::to_string(g) : "") << "="
       << *segments[g].getAsObject()->getInteger("nk");
  }
  os << " d=" << *sizes.getInteger("d") << " dv=" << *sizes.getInteger("dv") << "\n";
  size_t n = 0;
  for (const json::Value &segment : segments) {
    writeSegment(os, *segment.getAsObject(), n++);
  }
  os << "\ntotal\n";
  if (std::optional<double> flops = facts.getNumber("flops")) {
    double live = *facts.getNumber("live_pairs"), executed = *facts.getNumber("executed_pairs");
    os << "  work       " << scaled(*flops, "FLOP") << " on " << grouped(live) << " live pairs ("
       << percent(live, *facts.getNumber("pairs")) << " of all)\n";
    os << "  waste      " << percent(executed - live, executed) << " of the executed pairs are dead\n";
    double bytes = *facts.getNumber("compulsory_bytes");
    os << "  traffic    at least " << scaled(bytes, "B");
    if (bytes > 0) {
      os << ", " << llvm::format("%.3g", *flops / bytes) << " FLOP/B";
    }
    os << "\n";
  } else {
    os << "  work       depends on run-time values\n";
  }
  if (const json::Object *time = facts.getObject("time")) {
    writeTime(os, *time);
  }
  if (const json::Object *schedule = facts.getObject("schedule")) {
    writeHeads(os, *schedule);
    os << "  schedule   " << *schedule->getInteger("super_tile") << " queries share one softmax state; chunks of "
       << *schedule->getInteger("key_chunk") << " keys\n";
    if (int64_t rows = schedule->getInteger("rows_up_to").value_or(0)) {
      os << "             with up to " << rows << " keys queries are taken one at a time, with more in tiles\n";
    }
  }
  return text;
}

} // namespace heddle
