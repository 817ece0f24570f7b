//===- manifest.cpp - What an artefact says about itself ------------------===//
//
// Reads the JSON of docs/abi.md. The only file that includes the JSON library.
//
//===----------------------------------------------------------------------===//
#include "runtime/src/manifest.h"

#include <algorithm>
#include <charconv>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>

using namespace heddle::rt;
using Json = nlohmann::json;

namespace {

constexpr int64_t maxScratch = int64_t(1) << 30;
constexpr int64_t maxPosition = int64_t(1) << 30;
constexpr size_t maxRank = 4;

/// Thrown inside this file only; parseManifest() catches it.
struct Bad {
  std::string what;
};

void require(bool condition, const std::string &what) {
  if (!condition) {
    throw Bad{what};
  }
}

struct DtypeEntry {
  const char *name;
  heddle_dtype dtype;
};
constexpr DtypeEntry dtypes[] = {
    {"f32", HEDDLE_F32}, {"f16", HEDDLE_F16}, {"bf16", HEDDLE_BF16}, {"f64", HEDDLE_F64}, {"bool", HEDDLE_BOOL},
    {"i8", HEDDLE_I8},   {"i32", HEDDLE_I32}, {"i64", HEDDLE_I64},   {"i1", HEDDLE_BOOL}, {"index", HEDDLE_I64}};

heddle_dtype parseDtype(const std::string &name) {
  for (const DtypeEntry &entry : dtypes) {
    if (name == entry.name) {
      return entry.dtype;
    }
  }
  throw Bad{"unknown type '" + name + "'"};
}

std::vector<int64_t> parseDims(const Json &json) {
  auto dims = json.get<std::vector<int64_t>>();
  require(dims.size() <= maxRank, "more than 4 dimensions");
  for (int64_t dim : dims) {
    require(dim >= -1 && dim < maxPosition, "a dimension out of range");
  }
  return dims;
}

/// The letters of "axes", "" where there is none.
std::string parseAxes(const Json &json, std::vector<Role::Rows> &rows) {
  std::string axes;
  if (json.contains("axes")) {
    for (const Json &axis : json["axes"]) {
      std::string name = axis.get<std::string>();
      require(!name.empty() && std::string_view("bhqk.").find(name[0]) != std::string_view::npos,
              "unknown axis '" + name + "'");
      axes += name[0];
      Role::Rows of;
      std::string_view rest = std::string_view(name).substr(1);
      if (rest.starts_with("/")) {
        auto [end, error] = std::from_chars(rest.data() + 1, rest.data() + rest.size(), of.divisor);
        require(error == std::errc() && of.divisor > 0, "unknown axis '" + name + "'");
        rest.remove_prefix(size_t(end - rest.data()));
      }
      if (rest == "+1") {
        of.more = 1;
      } else {
        require(rest.empty(), "unknown axis '" + name + "'");
      }
      rows.push_back(of);
    }
  }
  return axes;
}

void parseCheck(const Json &json, Role &role) {
  static const char *const names[] = {"none", "list", "graph", "distinct", "query_starts", "key_starts", "length"};
  std::string name = json.value("check", "none");
  const auto *found = std::find(std::begin(names), std::end(names), name);
  require(found != std::end(names), "unknown check '" + name + "'");
  role.check = static_cast<Role::Check>(found - std::begin(names));
  role.divisor = json.value("divisor", int64_t(1));
  role.pointers = json.value("pointers", -1);
  require(role.check != Role::Graph || role.pointers >= 0, "a graph without row pointers");
}

Role parseRole(const Json &json, size_t segments) {
  static const std::pair<const char *, RoleKind> names[] = {{"q", RoleKind::Q},
                                                            {"k", RoleKind::K},
                                                            {"v", RoleKind::V},
                                                            {"dot_q", RoleKind::DotQ},
                                                            {"dot_k", RoleKind::DotK},
                                                            {"relative", RoleKind::Relative},
                                                            {"q_offset", RoleKind::QOffset},
                                                            {"k_offset", RoleKind::KOffset},
                                                            {"sink", RoleKind::Sink},
                                                            {"scale", RoleKind::Scale},
                                                            {"operand", RoleKind::Operand}};
  std::string name = json.at("role").get<std::string>();
  for (auto &[text, kind] : names) {
    if (name == text) {
      // An operand that names no segment may belong to any.
      Role role{};
      role.kind = kind;
      role.segment = json.value("segment", kind == RoleKind::Operand ? -1 : 0);
      require(role.segment >= (kind == RoleKind::Operand ? -1 : 0) && role.segment < int(segments),
              "a role of an unknown segment");
      role.axes = parseAxes(json, role.rows);
      parseCheck(json, role);
      if (json.contains("min")) {
        role.min = json["min"].get<int64_t>();
      }
      if (json.contains("max")) {
        role.max = json["max"].get<int64_t>();
      }
      return role;
    }
  }
  throw Bad{"unknown role '" + name + "'"};
}

size_t expectedRank(RoleKind kind) {
  switch (kind) {
  case RoleKind::Q:
  case RoleKind::K:
  case RoleKind::V:
  case RoleKind::DotQ:
  case RoleKind::DotK:
  case RoleKind::Relative:
    return 4;
  case RoleKind::Sink:
    return 1;
  default:
    return 0;
  }
}

Argument parseArgument(const Json &json, size_t segments) {
  Argument arg;
  arg.name = json.at("name").get<std::string>();
  arg.dtype = parseDtype(json.at("type").get<std::string>());
  arg.scalar = json.value("scalar", false);
  if (!arg.scalar) {
    arg.dims = parseDims(json.at("dims"));
  }
  std::vector<Role::Rows> rows;
  std::string axes = parseAxes(json, rows);
  if (json.contains("roles")) {
    for (const Json &role : json["roles"]) {
      arg.roles.push_back(parseRole(role, segments));
      Role &added = arg.roles.back();
      if (added.kind == RoleKind::Operand && added.axes.empty()) {
        added.axes = axes;
        added.rows = rows;
      }
      size_t rank = expectedRank(added.kind);
      require(rank == 0 || (!arg.scalar && arg.dims.size() == rank), "argument '" + arg.name +
                                                                         "' has a rank that does "
                                                                         "not fit its role");
      require(added.axes.empty() || added.axes.size() == arg.dims.size(),
              "argument '" + arg.name + "' has more or fewer axes than dimensions");
    }
  }
  return arg;
}

Offset parseOffset(const Json &json, const std::vector<Argument> &args) {
  Offset offset;
  std::string kind = json.value("kind", "none");
  if (kind == "none") {
    return offset;
  }
  if (kind == "value") {
    offset.kind = Offset::Value;
    offset.value = json.at("value").get<int64_t>();
    require(offset.value > -maxPosition && offset.value < maxPosition, "an offset out of range");
  } else if (kind == "end") {
    offset.kind = Offset::End;
  } else if (kind == "arg") {
    offset.kind = Offset::Arg;
    offset.arg = json.at("arg").get<int>();
    require(offset.arg >= 0 && size_t(offset.arg) < args.size(), "an offset by an unknown argument");
    const Argument &arg = args[offset.arg];
    require(arg.scalar || arg.dims.size() == 1, "an offset that is neither a scalar nor a list");
    require(arg.dtype == HEDDLE_I64 || arg.dtype == HEDDLE_I32, "an offset that is not an integer");
  } else {
    throw Bad{"unknown kind of offset '" + kind + "'"};
  }
  return offset;
}

void findRoles(Manifest &m) {
  for (size_t a = 0; a < m.args.size(); ++a) {
    for (const Role &role : m.args[a].roles) {
      if (role.kind == RoleKind::Q) {
        require(m.q < 0, "two arguments with the role q");
        m.q = int(a);
      } else if (role.kind == RoleKind::K) {
        m.segments[role.segment].k = int(a);
      } else if (role.kind == RoleKind::V) {
        m.segments[role.segment].v = int(a);
      }
    }
  }
  require(m.q >= 0, "no argument with the role q");
  for (const Segment &s : m.segments) {
    require(s.v >= 0, "a segment without the role v");
  }
}

GpuPlan::Kernel parseGpuKernel(const Json &k, bool op) {
  GpuPlan::Kernel kernel;
  kernel.name = k.at("name").get<std::string>();
  kernel.threads = k.at("threads").get<int64_t>();
  kernel.sharedBytes = k.at("shared_bytes").get<int64_t>();
  kernel.cubin = k.value("cubin", int64_t(0));
  if (op) {
    kernel.maxBlocks = k.at("max_blocks").get<int64_t>();
    kernel.blockBytes = k.at("block_bytes").get<int64_t>();
    require(kernel.maxBlocks > 0 && kernel.maxBlocks < 1 << 20, "max_blocks out of range");
    require(kernel.blockBytes >= 0 && kernel.blockBytes <= maxScratch, "block_bytes out of range");
  } else if (k.contains("merge")) {
    kernel.merge = true;
  } else {
    kernel.span = k.at("span").get<int64_t>();
    kernel.inner = k.at("inner").get<int64_t>();
  }
  require(kernel.threads > 0 && kernel.threads <= 1024, "threads out of range");
  require(kernel.sharedBytes >= 0 && kernel.sharedBytes <= 1 << 20, "shared_bytes out of range");
  require(kernel.span > 0 && kernel.span < maxPosition && kernel.inner > 0 && kernel.inner < maxPosition,
          "blocks out of range");
  return kernel;
}

/// How a GPU's kernels are launched.
GpuPlan parseGpu(const Json &json, bool op) {
  GpuPlan plan;
  plan.chip = json.at("chip").get<std::string>();
  plan.ptxBytes = json.at("ptx_bytes").get<int64_t>();
  int64_t assembled = json.at("cubin_bytes").get<int64_t>(), rest = assembled;
  require(plan.ptxBytes >= 0 && assembled >= 0, "code of a negative size");
  for (const Json &n : json.value("cubins", assembled > 0 ? Json::array({assembled}) : Json::array())) {
    plan.cubinBytes.push_back(n.get<int64_t>());
    require(plan.cubinBytes.back() > 0 && plan.cubinBytes.back() <= rest, "cubins of another size");
    rest -= plan.cubinBytes.back();
  }
  require(rest == 0, "cubins of another size");
  plan.workspaceWords = json.at("workspace_words").get<int64_t>();
  plan.stateWords = json.value("state_words", int64_t(0));
  require(plan.workspaceWords >= 0 && plan.workspaceWords <= 1 << 16, "workspace_words out of range");
  require(plan.stateWords >= 0 && plan.stateWords <= 1 << 16, "state_words out of range");
  auto kernels = [&](const Json &list, std::vector<GpuPlan::Kernel> &out) {
    for (const Json &k : list) {
      out.push_back(parseGpuKernel(k, op));
      int64_t cubin = out.back().cubin;
      require(cubin >= 0 && (cubin == 0 || cubin < int64_t(plan.cubinBytes.size()) || plan.cubinBytes.empty()),
              "a kernel in a cubin that is not there");
    }
  };
  kernels(json.at("kernels"), plan.kernels);
  kernels(json.value("tensor_kernels", Json::array()), plan.tensorKernels);
  for (const Json &r : json.value("tensor_maps", Json::array())) {
    GpuPlan::MapRecipe recipe{r.at("arg").get<int64_t>(), r.at("step").get<int64_t>(), r.at("rows").get<int64_t>()};
    require(recipe.step > 0 && recipe.step < maxPosition && recipe.rows > 0 && recipe.rows <= 256,
            "a tensor map out of range");
    plan.tensorMaps.push_back(recipe);
  }
  require(plan.tensorMaps.size() <= 64 && plan.tensorMaps.empty() == plan.tensorKernels.empty(),
          "tensor maps without kernels, or too many");
  require(!plan.kernels.empty(), "no kernel");
  return plan;
}

/// How tasks may share a super-tile, its state and the keys.
void parseSharing(const Json &json, Manifest &m) {
  m.parts = json.value("parts", std::vector<int64_t>{1});
  require(!m.parts.empty() && m.parts.size() <= 4096, "parts of no group or of too many");
  for (int64_t parts : m.parts) {
    require(parts > 0 && parts <= 4096, "parts out of range");
  }
  m.stateBytes = json.value("state_bytes", int64_t(0));
  require(m.stateBytes >= 0 && m.stateBytes <= maxScratch && m.stateBytes % 64 == 0, "state_bytes out of range");
  m.keysPerSplit = json.value("keys_per_split", int64_t(0));
  require(m.keysPerSplit >= 0 && m.keysPerSplit < maxPosition, "keys_per_split out of range");
  m.maxSplits = json.value("max_splits", int64_t(1));
  require(m.maxSplits > 0 && m.maxSplits <= 4096, "max_splits out of range");
  bool states = m.gpu ? m.gpu->stateWords > 0 : m.stateBytes > 0;
  require((m.parts.size() == 1 && m.keysPerSplit == 0) || states, "shared states of no size");
  require(m.keysPerSplit == 0 || m.parts.size() == 1, "splits of keys with several groups of strata");
  m.lanes = json.value("lanes", int64_t(64));
  require(m.lanes > 0 && m.lanes <= 4096, "lanes out of range");
  const Json share = json.value("heads_share_tiles", Json(0));
  m.headsShareTiles = share.is_boolean() ? share.get<bool>() : share.get<int64_t>() != 0;
}

/// Dimensions of arguments that heads of one tile have to share.
void parseHeadTables(const Json &json, Manifest &m) {
  for (const Json &table : json.value("head_tables", Json::array())) {
    auto arg = table.at("arg").get<int64_t>(), dim = table.at("dim").get<int64_t>();
    require(arg >= 0 && size_t(arg) < m.args.size() && dim >= 0 && size_t(dim) < m.args[arg].dims.size(),
            "head_tables out of range");
    m.headTables.emplace_back(arg, dim);
  }
}

/// A postfix expression such as "a0.2 63 + 64 /".
SizeExpr parseSize(const Json &json, const std::vector<Argument> &args) {
  SizeExpr e;
  std::string text = json.get<std::string>();
  size_t depth = 0;
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(text.find(' ', at), text.size());
    std::string token = text.substr(at, end - at);
    at = end + 1;
    static const std::pair<const char *, SizeTerm::Kind> operators[] = {{"+", SizeTerm::Add},
                                                                        {"*", SizeTerm::Mul},
                                                                        {"/", SizeTerm::FloorDiv},
                                                                        {"^", SizeTerm::CeilDiv},
                                                                        {"%", SizeTerm::Mod}};
    auto found = std::find_if(std::begin(operators), std::end(operators), [&](auto &o) { return token == o.first; });
    if (found != std::end(operators)) {
      require(depth >= 2, "a size with too few operands");
      --depth;
      e.push_back({found->second, 0});
      continue;
    }
    int64_t a = 0, n = 0;
    int used = 0;
    if (std::sscanf(token.c_str(), "a%ld.%ld%n", &a, &n, &used) == 2 && size_t(used) == token.size()) {
      require(a >= 0 && size_t(a) < args.size() && n >= 0 && n < int64_t(maxRank), "a size of an unknown argument");
      e.push_back({SizeTerm::Size, 4 * a + n});
    } else if (std::sscanf(token.c_str(), "%ld%n", &n, &used) == 1 && size_t(used) == token.size()) {
      e.push_back({SizeTerm::Constant, n});
    } else {
      throw Bad{"an unreadable size '" + text + "'"};
    }
    require(++depth <= 16, "a size that is too deep");
  }
  require(depth == 1, "a size that is no expression");
  return e;
}

OpLaunch parseLaunch(const Json &json, const Manifest &m) {
  OpLaunch launch;
  launch.tasks = parseSize(json.at("tasks"), m.args);
  launch.work = parseSize(json.at("work"), m.args);
  for (const Json &result : json.at("results")) {
    std::vector<SizeExpr> sizes;
    for (const Json &size : result.at("sizes")) {
      sizes.push_back(parseSize(size, m.args));
    }
    require(sizes.size() == m.results[launch.sizes.size()].dims.size(), "a result with more or fewer sizes than "
                                                                        "dimensions");
    launch.sizes.push_back(std::move(sizes));
  }
  for (const Json &check : json.at("checks")) {
    std::string kind = check.at("kind").get<std::string>();
    require(kind == "is" || kind == "or_one" || kind == "divides", "unknown check '" + kind + "'");
    OpCheck c{kind == "is"       ? OpCheck::Is
              : kind == "or_one" ? OpCheck::OrOne
                                 : OpCheck::Divides,
              check.at("arg").get<int>(), check.at("axis").get<int>(), parseSize(check.at("size"), m.args)};
    require(c.arg >= 0 && size_t(c.arg) < m.args.size() && c.axis >= 0 && size_t(c.axis) < m.args[c.arg].dims.size(),
            "a check of an unknown size");
    launch.checks.push_back(std::move(c));
  }
  return launch;
}

void parseResults(const Json &json, Manifest &m) {
  for (const Json &result : json.at("results")) {
    m.results.push_back(
        {parseDtype(result.at("type").get<std::string>()), parseDims(result.at("dims")), ResultRole::Out, -1});
  }
  require(!m.results.empty(), "no results");
}

void parseProgram(const Json &json, Manifest &m) {
  for (const Json &arg : json.at("args")) {
    m.args.push_back(parseArgument(arg, 0));
  }
  m.numValues = int(m.args.size());
  m.kernels = json.at("kernels").get<std::vector<int64_t>>();
  for (const Json &step : json.at("steps")) {
    Step s{step.at("kernel").get<int>(), step.at("args").get<std::vector<int>>(),
           step.at("results").get<std::vector<int>>()};
    require(s.kernel >= 0 && size_t(s.kernel) < m.kernels.size(), "a step of an unknown kernel");
    for (int v : s.args) {
      require(v >= 0 && v < m.numValues, "a step that reads an unknown value");
    }
    for (int v : s.results) {
      require(v == m.numValues++, "a step whose results are not the next values");
    }
    m.steps.push_back(std::move(s));
  }
  require(!m.steps.empty(), "no steps");
  parseResults(json, m);
  for (size_t r = 0; r < m.results.size(); ++r) {
    int v = json["results"][r].at("value").get<int>();
    require(v >= int(m.args.size()) && v < m.numValues, "a result that no step computes");
    m.results[r].value = v;
  }
}

void parse(std::string_view text, Manifest &m) {
  Json json = Json::parse(text.begin(), text.end());
  int format = json.at("format").get<int>();
  require(format == 1 || format == 2, "another format than 1 or 2");
  m.name = json.value("name", "");
  m.features = json.value("features", "");
  if (format == 2) {
    if (json.contains("gpu")) {
      m.gpu.emplace().chip = json["gpu"].at("chip").get<std::string>();
    }
    return parseProgram(json, m);
  }
  m.entry = json.at("entry").get<std::string>();
  if (json.contains("gpu")) {
    m.gpu = parseGpu(json["gpu"], json.value("kind", "") == "op");
  }
  m.scratchBytes = m.gpu ? 0 : json.at("scratch_bytes").get<int64_t>();
  require(m.scratchBytes >= 0 && m.scratchBytes <= maxScratch, "scratch_bytes out of range");
  if (json.value("kind", "") == "op") {
    for (const Json &arg : json.at("args")) {
      m.args.push_back(parseArgument(arg, 0));
    }
    parseResults(json, m);
    m.op = parseLaunch(json, m);
    return;
  }
  parseSharing(json, m);
  m.superTile = m.gpu ? 1 : json.at("super_tile").get<int64_t>();
  require(m.superTile > 0 && m.superTile < maxPosition, "super_tile out of range");
  bool needsQOffset = json.value("needs_q_offset", false);
  const Json &segments = json.at("segments");
  require(segments.is_array() && !segments.empty(), "no segments");
  m.segments.resize(segments.size());
  for (const Json &arg : json.at("args")) {
    m.args.push_back(parseArgument(arg, segments.size()));
  }
  parseHeadTables(json, m);
  for (size_t s = 0; s < segments.size(); ++s) {
    m.segments[s].needsQOffset = segments[s].value("needs_q_offset", needsQOffset);
    if (segments[s].contains("k_offset")) {
      m.segments[s].kOffset = parseOffset(segments[s]["k_offset"], m.args);
      require(m.segments[s].kOffset.kind != Offset::End, "a k_offset of kind end");
    }
  }
  if (json.contains("q_offset")) {
    m.qOffset = parseOffset(json["q_offset"], m.args);
  }
  for (const Json &result : json.at("results")) {
    std::string role = result.at("role").get<std::string>();
    require(role == "out" || role == "lse", "unknown role '" + role + "' of a result");
    m.results.push_back({parseDtype(result.at("type").get<std::string>()), parseDims(result.at("dims")),
                         role == "out" ? ResultRole::Out : ResultRole::Lse, -1});
    require(m.results.back().dims.size() == (role == "out" ? 4u : 3u), "a result of the wrong rank");
  }
  for (const Json &order : json.value("orders", Json::array())) {
    Order o{order.at("query").get<int>(), order.at("key").get<int>(), order.value("within", int64_t(0))};
    for (int arg : {o.query, o.key}) {
      require(arg >= 0 && size_t(arg) < m.args.size(), "an order by an unknown argument");
      const Argument &ids = m.args[arg];
      bool integers = ids.dtype == HEDDLE_I64 || ids.dtype == HEDDLE_I32 || ids.dtype == HEDDLE_I8;
      require(!ids.scalar && integers && (ids.dims.size() == 2 || ids.dims.size() == 3),
              "an order by an argument that is no ids");
    }
    require(o.within >= 0 && o.within < maxPosition, "an order within a size out of range");
    m.orders.push_back(o);
  }
  for (const Json &listed : json.value("listed", Json::array())) {
    Listed l{listed.at("arg").get<int>(), listed.at("list").get<int>()};
    auto known = [&](int arg) { return arg >= 0 && size_t(arg) < m.args.size() && !m.args[arg].scalar; };
    require(known(l.arg) && m.args[l.arg].dims.size() == 4, "rows of an argument that has none");
    require(known(l.list) && (m.args[l.list].dtype == HEDDLE_I32 || m.args[l.list].dtype == HEDDLE_I64) &&
                (m.args[l.list].dims.size() == 2 || m.args[l.list].dims.size() == 3) && !m.gpu,
            "rows by an argument that is no list");
    m.listed.push_back(l);
  }
  for (const Argument &arg : m.args) {
    for (const Role &role : arg.roles) {
      if (role.check != Role::None) {
        require(!arg.scalar && !arg.dims.empty() && role.pointers < int(m.args.size()) &&
                    (role.pointers < 0 || !m.args[role.pointers].scalar),
                "a check of an unknown argument");
      }
    }
  }
  for (const GpuPlan::MapRecipe &r : m.gpu ? m.gpu->tensorMaps : std::vector<GpuPlan::MapRecipe>()) {
    require(r.arg >= 0 && r.arg < int64_t(m.args.size()) && !m.args[size_t(r.arg)].scalar &&
                m.args[size_t(r.arg)].dims.size() == 4,
            "a tensor map of an argument that is no [b, h, n, d]");
  }
  findRoles(m);
}

} // namespace

Error heddle::rt::parseManifest(std::string_view json, Manifest &out) {
  try {
    parse(json, out);
    return nullptr;
  } catch (const Bad &bad) {
    return systemError("expected a valid manifest, but it has " + bad.what);
  } catch (const Json::exception &e) {
    return systemError(std::string("expected a valid manifest, but got: ") + e.what());
  }
}

std::string heddle::rt::quoteJson(std::string_view text) {
  return Json(std::string(text)).dump(-1, ' ', false, Json::error_handler_t::replace);
}

const char *heddle::rt::dtypeName(heddle_dtype dtype) {
  for (const DtypeEntry &entry : dtypes) {
    if (entry.dtype == dtype) {
      return entry.name;
    }
  }
  return "an unknown type";
}

int64_t heddle::rt::dtypeSize(heddle_dtype dtype) {
  switch (dtype) {
  case HEDDLE_F64:
  case HEDDLE_I64:
    return 8;
  case HEDDLE_F32:
  case HEDDLE_I32:
    return 4;
  case HEDDLE_F16:
  case HEDDLE_BF16:
    return 2;
  case HEDDLE_BOOL:
  case HEDDLE_I8:
    return 1;
  }
  return 0;
}
