//===- heddle.cpp - The heddle command ------------------------------------===//
//
// Parses the command line and hands it to a subcommand (Commands.h). Exit
// codes: 0 done; 1 a check failed or the system did; 2 bad input.
//
//===----------------------------------------------------------------------===//

#include "tools/Commands.h"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <functional>
#include <string>

using namespace heddle::tools;

namespace {

constexpr const char *kAbout =
    "Heddle compiles attention: you write which query attends to which key and how the scores are formed,\n"
    "Heddle generates one fused kernel that does exactly that work.\n";

constexpr const char *kAboutFooter = R"(
First steps:
  heddle show --pattern 'causal & (window(3, 0) | stride(8))' --shape n=32     draw a pattern
  heddle run --pattern 'causal & window(63, 0)' --shape n=4096 --check        time it, and check it
  heddle explain examples/sparse_transformer.mlir                             what would be done, and why
  heddle compile examples/causal.mlir -o causal.s                             read the code

SPEC is a file in the attn dialect, or - for stdin; --pattern 'TEXT' makes a spec around a pattern. `heddle COMMAND
--help` has examples of each. Exit codes: 0 done, 1 a check failed or the system did, 2 bad input.)";

constexpr const char *kCompileFooter = R"(
By the ending of OUT:
  .bundle  the kernel with its manifest: hd.load("k.bundle") in Python runs it without a compiler
  .o .so   object and shared object (ld.lld does the linking); the entry is heddle_task, see docs/abi.md
  .s .ll   assembly and LLVM IR
  .ptx     for a GPU; .cubin too, where ptxas is in PATH (or HEDDLE_PTXAS)
  .mlir    the IR after a stage: attn, schedule, tiles (default), vector, llvm
  .json    the manifest

Examples:
  heddle compile examples/causal.mlir -o causal.bundle
  heddle compile examples/causal.mlir --target=x86-64-v3 -o causal.s
  heddle compile examples/causal.mlir --target=sm_90a -o causal.ptx
  heddle compile --pattern 'causal & window(63, 0)' --shape h=8,d=64 --dtype bf16 -o window.mlir --stage=schedule
  heddle compile examples/alibi.mlir -o -  --stage=llvm                   to the terminal)";

constexpr const char *kRunFooter = R"(
Sizes that the spec leaves open (?) are taken from --shape: b, h, hk, hv (heads of queries, keys, values), n (or nq and
nk), d, dv. Scalar arguments of the spec are set by their names, as in --shape n=1024,w=64. Run-time ids, lengths and
flags are drawn at random to fit their use.

--check compares every result with the reference interpreter, which executes the spec pair by pair in double precision:
in f32, |error| <= (2e-6 sqrt(keys) + 4 * 2^-24 max|s|) * sum p|v|; in f16 and bf16, that plus what rounding the
probabilities and the result to that type costs, twice. The reference is slow: past a few seconds' worth of pairs the check
runs the same kernel on a shorter sequence and says so; --check-full does not.

Examples:
  heddle run examples/dense.mlir --shape b=1,h=8,n=4096,d=64 --check
  heddle run examples/window.mlir --shape n=8192 --compare-dense
  heddle run --pattern 'causal & window(%w, 0)' --shape n=8192,w=255 --dtype bf16 --repeat 20
  heddle run examples/decode.mlir --shape nq=1,nk=4096 --threads 1)";

constexpr const char *kExplainFooter = R"(
Says which pairs are live, how the pattern was split into strata and why, how many tiles run without and with a mask, what
that costs in FLOPs, and what is wasted on dead pairs. Nothing runs.

Examples:
  heddle explain examples/sparse_transformer.mlir
  heddle explain examples/longformer.mlir --shape n=16384 --json
  heddle explain examples/causal.mlir --target=sm_90a
  heddle explain --pattern 'causal & (window(63, 0) | stride(64))' --shape n=4096)";

constexpr const char *kShowFooter = R"(
In the picture, dark pixels are live pairs (queries down, keys across) and the shade behind them is the tile's class: full
tiles run without a mask. -o - draws characters: # live, . dead but inside a tile that runs, blank skipped.

Examples:
  heddle show --pattern 'causal & (window(3, 0) | stride(8))' --shape n=48
  heddle show examples/longformer.mlir -o mask.png --shape n=512
  heddle show examples/neighborhood2d.mlir --shape n=64 -o -)";

constexpr const char *kCacheFooter = R"(
Examples:
  heddle cache list            what is there, most recently used first
  heddle cache stats --json    entries, bytes, limit
  heddle cache path            the folder (HEDDLE_CACHE_DIR sets it)
  heddle cache clear           removes every kernel)";

void addSource(CLI::App &app, SpecSource &source) {
  app.add_option("SPEC", source.path, "spec file, or - for stdin");
  app.add_option("--pattern,-p", source.pattern, "a pattern instead of a spec: 'causal & window(63, 0)'");
  app.add_option("--shape,-s", source.shape, "sizes, as in b=1,h=8,n=4096,d=64");
  app.add_option("--dtype", source.dtype, "f32, f16 or bf16 (default: the spec's; f32 for --pattern)");
}

CLI::App *addCommand(CLI::App &app, const char *name, const char *about, const char *footer) {
  CLI::App *command = app.add_subcommand(name, about);
  command->footer(footer);
  return command;
}

void addCompile(CLI::App &app, std::function<int()> &action, CompileOptions &options) {
  CLI::App *command =
      addCommand(app, "compile", "spec to object, assembly, PTX, cubin, shared object, bundle or IR", kCompileFooter);
  addSource(*command, options.source);
  command
      ->add_option(
          "--target,-t", options.target,
          "native, x86-64-v2, x86-64-v3, x86-64-v4, sapphirerapids (with AMX), emulated-amx, or a GPU: sm_80, sm_86, "
          "sm_89, sm_90, sm_90a")
      ->capture_default_str();
  command->add_option("--output,-o", options.output, "where to, - for the terminal")->required();
  command->add_option("--stage", options.stage, "attn, schedule, tiles, vector, llvm, llvm-ir or asm");
  command->add_flag("--remarks", options.remarks, "print the compiler's remarks");
  command->callback([&] { action = [&] { return runCompile(options); }; });
}

void addRun(CLI::App &app, std::function<int()> &action, RunOptions &options) {
  CLI::App *command = addCommand(app, "run", "run a spec on random data: time, GFLOP/s, check", kRunFooter);
  addSource(*command, options.source);
  command
      ->add_option("--target,-t", options.target,
                   "native, x86-64-v2, x86-64-v3, x86-64-v4, sapphirerapids or emulated-amx")
      ->capture_default_str();
  command->add_flag("--check", options.check, "compare with the reference interpreter");
  command->add_flag("--check-full", options.checkFull, "the same, at the full size however long it takes");
  command->add_flag("--compare-dense", options.compareDense, "also time the same shape without a pattern");
  command->add_option("--repeat,-r", options.repeat, "timed runs (default: half a second's worth)")
      ->check(CLI::Range(1, 1000000));
  command->add_option("--threads", options.threads, "threads (default: HEDDLE_NUM_THREADS, else all CPUs)")
      ->check(CLI::Range(1, 4096));
  command->add_option("--seed", options.seed, "of the random data")->capture_default_str();
  command->add_flag("--json", options.json, "print one JSON object");
  command->callback([&] { action = [&] { return runRun(options); }; });
}

void addExplain(CLI::App &app, std::function<int()> &action, ExplainOptions &options) {
  CLI::App *command =
      addCommand(app, "explain", "the schedule in words: pairs, strata, tiles, waste, time", kExplainFooter);
  addSource(*command, options.source);
  command->add_option("--target,-t", options.target, "a GPU (sm_80, sm_90a, ...): also its kernels, compiled");
  command->add_flag("--json", options.json, "print JSON");
  command->add_flag("--run", options.run, "also run it on random data, and set the time beside the predicted one");
  command->add_option("--threads", options.threads, "threads (default: HEDDLE_NUM_THREADS, else all CPUs)")
      ->check(CLI::Range(1, 4096));
  command->callback([&] { action = [&] { return runExplain(options); }; });
}

void addShow(CLI::App &app, std::function<int()> &action, ShowOptions &options) {
  CLI::App *command = addCommand(app, "show", "the pattern and its tiles as a picture", kShowFooter);
  addSource(*command, options.source);
  command->add_option("--output,-o", options.output, "a .png file, or - for characters")->capture_default_str();
  command->add_option("--head", options.head, "query head (patterns may differ by head)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--segment", options.segment, "one segment only (default: all, side by side)");
  command->add_option("--size", options.size, "picture width in pixels (default: a pixel or more per pair)")
      ->check(CLI::Range(16, 16384));
  command->add_option("--seed", options.seed, "of the random ids, lengths and flags")->capture_default_str();
  command->callback([&] { action = [&] { return runShow(options); }; });
}

void addCache(CLI::App &app, std::function<int()> &action, CacheOptions &options) {
  CLI::App *command = addCommand(app, "cache", "the cache of compiled kernels", kCacheFooter);
  command->add_option("ACTION", options.action, "list, stats, clear or path");
  command->add_flag("--json", options.json, "print JSON (list and stats)");
  command->callback([&] { action = [&] { return runCache(options); }; });
}

/// Says what came instead of a command; else CLI11's text, and where help is.
int usageError(const CLI::ParseError &error, const CLI::App &app, int argc, char **argv) {
  std::string command;
  if (app.get_subcommands().empty() && (argc < 2 || argv[1][0] != '-')) {
    std::fprintf(stderr,
                 "heddle: error: expected compile, run, explain, show or cache, but got %s\n(heddle --help has "
                 "examples)\n",
                 argc < 2 ? "no command" : ("'" + std::string(argv[1]) + "'").c_str());
    return 2;
  }
  for (const CLI::App *used : app.get_subcommands()) {
    command += " " + used->get_name();
  }
  std::fprintf(stderr, "heddle: error: %s\n(heddle%s --help has examples)\n", error.what(), command.c_str());
  return 2;
}

} // namespace

int main(int argc, char **argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0); // results stand before what stderr says next
  CLI::App app(kAbout, "heddle");
  app.footer(kAboutFooter);
  app.require_subcommand(1);
  app.set_version_flag("--version", HEDDLE_VERSION);
  std::function<int()> action;
  CompileOptions compileOptions;
  RunOptions runOptions;
  ExplainOptions explainOptions;
  ShowOptions showOptions;
  CacheOptions cacheOptions;
  addCompile(app, action, compileOptions);
  addRun(app, action, runOptions);
  addExplain(app, action, explainOptions);
  addShow(app, action, showOptions);
  addCache(app, action, cacheOptions);
  try {
    app.parse(argc, argv);
    return action();
  } catch (const CLI::CallForHelp &error) {
    return app.exit(error);
  } catch (const CLI::CallForAllHelp &error) {
    return app.exit(error);
  } catch (const CLI::CallForVersion &error) {
    return app.exit(error);
  } catch (const CLI::ParseError &error) {
    return usageError(error, app, argc, argv);
  } catch (const Failure &failure) {
    std::fflush(stdout);
    std::fprintf(stderr, "heddle: error: %s\n", failure.what());
    return failure.code;
  } catch (const std::exception &error) {
    std::fflush(stdout);
    std::fprintf(stderr, "heddle: error: %s\n", error.what());
    return 1;
  }
}
