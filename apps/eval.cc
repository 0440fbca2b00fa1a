// linnet eval: how well a language model predicts a text, and how far its answers are from another file's of
// the same model: what a quantisation costs.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/bounds_options.h"
#include "apps/common.h"
#include "apps/eval_choices.h"
#include "apps/eval_pictures.h"
#include "apps/scorer.h"
#include "converter/readers/json.h"
#include "linnet/model.h"
#include "runtime/core/strings.h"
#include "runtime/text/printable.h"
#include "runtime/text/tokenizer.h"

namespace linnet::app {
namespace {

using Report = nlohmann::ordered_json;

struct EvalArguments {
  std::string path, text, choices, pictures, against;
  int steps = 0;
  int64_t size = 0;
  uint64_t seed = 0;
  int64_t stride = 0, tokens = 0;
  bool json = false;
  BoundsOptions bounds;
};

struct Sums {
  int64_t tokens = 0, same = 0;
  double loss = 0, squares = 0;  // of nats
  double other_loss = 0;
  std::vector<double> divergences;
};

// What one row says of the token that follows; `other` is the same row of the file that is compared with.
void score(std::span<const float> row, std::span<const float> other, int32_t next, Sums& sums) {
  size_t best, other_best;
  const double all = log_sum(row, best), loss = all - static_cast<double>(row[static_cast<size_t>(next)]);
  ++sums.tokens;
  sums.loss += loss;
  sums.squares += loss * loss;
  if (other.empty()) return;
  const double other_all = log_sum(other, other_best);
  sums.other_loss += other_all - static_cast<double>(other[static_cast<size_t>(next)]);
  double divergence = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    const double p = static_cast<double>(other[i]) - other_all, q = static_cast<double>(row[i]) - all;
    divergence += std::exp(p) * (p - q);
  }
  sums.divergences.push_back(std::max(divergence, 0.0));
  sums.same += best == other_best;
}

// The windows: `context` tokens each, of which those are scored that no window before has scored.
Result<Sums> run_windows(const EvalArguments& options, std::span<const int32_t> ids, Scorer& scorer,
                         Scorer* other, ProgressBar& bar) {
  const int64_t context = options.bounds.context, stride = options.stride > 0 ? options.stride : context;
  const auto total = static_cast<int64_t>(ids.size());
  const int32_t bos = scorer.model().tokenizer()->bos_id();
  const bool begins = bos >= 0 && ids[0] == bos;
  Sums sums;
  for (int64_t begin = 0, scored = 1; begin + 1 < total && scored < total; begin += stride) {
    const int64_t end = std::min(begin + context, total);
    std::vector<int32_t> window(ids.begin() + begin, ids.begin() + end);
    // The model expects its beginning where a text begins; the first token of a window is not scored.
    if (begins) window[0] = bos;
    LINNET_TRY(scorer.begin());
    if (other) LINNET_TRY(other->begin());
    const auto size = static_cast<int64_t>(window.size());
    for (int64_t at = 0; at + 1 < size;) {
      const int64_t count = std::min(scorer.chunk(), size - 1 - at);
      const auto chunk =
          std::span<const int32_t>(window).subspan(static_cast<size_t>(at), static_cast<size_t>(count));
      LINNET_ASSIGN(const std::span<const float> rows, scorer.run(chunk));
      std::span<const float> other_rows;
      if (other) {
        LINNET_ASSIGN(other_rows, other->run(chunk));
      }
      const auto vocabulary = static_cast<size_t>(scorer.vocabulary());
      for (int64_t i = 0; i < count; ++i) {
        const int64_t next = begin + at + i + 1;  // the token that this row predicts
        if (next < scored) continue;
        const auto row = static_cast<size_t>(i) * vocabulary;
        score(rows.subspan(row, vocabulary), other ? other_rows.subspan(row, vocabulary) : other_rows,
              ids[static_cast<size_t>(next)], sums);
      }
      at += count;
      bar.show("evaluating", static_cast<uint64_t>(begin + at), static_cast<uint64_t>(total));
      if (interrupted()) return fail(ErrorCode::kCancelled, "stopped");
    }
    scored = end;
    if (!std::isfinite(sums.loss))
      return fail(ErrorCode::kNumeric,
                  strf("the logits of '{}' are not finite in the window of tokens {} to {}", options.path,
                       begin, end - 1));
  }
  return sums;
}

Result<Report> evaluate(const EvalArguments& options, const Backend& backend, ProgressBar& bar) {
  const auto shows = [&bar](const char* what) {
    return [&bar, what](uint64_t done, uint64_t total) {
      bar.show(what, done, total);
      return !interrupted();
    };
  };
  if (!options.pictures.empty())
    return compare_pictures({.path = options.path,
                             .against = options.against,
                             .prompts = options.pictures,
                             .steps = options.steps,
                             .threads = options.bounds.threads,
                             .size = options.size,
                             .seed = options.seed},
                            backend, shows("drawing"));
  if (!options.choices.empty()) {
    LINNET_ASSIGN(Scorer scorer, Scorer::create(options.path, backend, options.bounds));
    return evaluate_choices(options.choices, scorer, options.bounds.context, shows("answering"));
  }
  LINNET_ASSIGN(const std::string text, convert::read_text(options.text));
  LINNET_ASSIGN(Scorer scorer, Scorer::create(options.path, backend, options.bounds));
  std::optional<Scorer> other;
  LINNET_ASSIGN(std::vector<int32_t> ids, scorer.model().tokenizer()->encode(text));
  size_t bytes = text.size();
  if (!options.against.empty()) {
    LINNET_ASSIGN(other, Scorer::create(options.against, backend, options.bounds));
    LINNET_ASSIGN(const std::vector<int32_t> theirs, other->model().tokenizer()->encode(text));
    if (other->vocabulary() != scorer.vocabulary() || theirs != ids)
      return fail(
          ErrorCode::kInvalidArgument,
          strf("'{}' cuts the text into other tokens than '{}': only files of one model can be compared",
               options.against, options.path));
  }
  if (options.tokens > 0 && static_cast<size_t>(options.tokens) < ids.size()) {
    ids.resize(static_cast<size_t>(options.tokens));
    bytes = scorer.model().tokenizer()->decode(ids).size();
  }
  if (ids.size() < 2)
    return fail(ErrorCode::kInvalidArgument,
                strf("'{}' is too short: a text of at least two tokens is needed, it has {}", options.text,
                     ids.size()));
  LINNET_ASSIGN(const Sums sums, run_windows(options, ids, scorer, other ? &*other : nullptr, bar));
  const auto n = static_cast<double>(sums.tokens);
  const double mean = sums.loss / n, variance = std::max(sums.squares / n - mean * mean, 0.0);
  Report report = {{"model", options.path},
                   {"text", options.text},
                   {"tokens", sums.tokens},
                   {"bytes", bytes},
                   {"context", options.bounds.context},
                   {"stride", options.stride > 0 ? options.stride : options.bounds.context},
                   {"perplexity", std::exp(mean)},
                   {"perplexity_error", std::exp(mean) * std::sqrt(variance / n)},
                   {"bits_per_byte", sums.loss / std::log(2.0) / static_cast<double>(bytes)}};
  if (!other) return report;
  std::vector<double> sorted = sums.divergences;
  std::sort(sorted.begin(), sorted.end());
  double divergence = 0;
  for (const double d : sorted) divergence += d;
  report["against"] = {{"model", options.against},
                       {"perplexity", std::exp(sums.other_loss / n)},
                       {"mean_kl", divergence / n},
                       {"median_kl", sorted[sorted.size() / 2]},
                       {"kl_99", sorted[std::min(sorted.size() - 1, sorted.size() * 99 / 100)]},
                       {"largest_kl", sorted.back()},
                       {"same_token", static_cast<double>(sums.same) / n}};
  return report;
}

void print_report(const Report& r) {
  std::printf("perplexity %.4f +- %.4f, %.4f bits a byte\n", r["perplexity"].get<double>(),
              r["perplexity_error"].get<double>(), r["bits_per_byte"].get<double>());
  std::printf("over %lld tokens (%lld bytes) in windows of %lld tokens, %lld apart\n",
              r["tokens"].get<long long>(), r["bytes"].get<long long>(), r["context"].get<long long>(),
              r["stride"].get<long long>());
  if (!r.contains("against")) return;
  const Report& a = r["against"];
  std::printf("against %s (perplexity %.4f):\n", text::printable_line(a["model"].get<std::string>()).c_str(),
              a["perplexity"].get<double>());
  std::printf("  KL divergence, nats a token: mean %.3g, median %.3g, 99%% below %.3g, largest %.3g\n",
              a["mean_kl"].get<double>(), a["median_kl"].get<double>(), a["kl_99"].get<double>(),
              a["largest_kl"].get<double>());
  std::printf("  the same likeliest token at %.2f%% of the positions\n", 100 * a["same_token"].get<double>());
}

// One of three measurements, and only its own options.
Result<void> check_measurement(const EvalArguments& options) {
  const int asked = !options.text.empty() + !options.choices.empty() + !options.pictures.empty();
  if (asked != 1)
    return fail(ErrorCode::kInvalidArgument,
                asked == 0
                    ? "what is to be measured? Give --text FILE, --choices FILE or --pictures FILE"
                    : "--text, --choices and --pictures are measurements of their own: give one of them");
  if (options.text.empty() && (options.stride > 0 || options.tokens > 0))
    return fail(ErrorCode::kInvalidArgument,
                "--stride and --tokens are of --text, and have no meaning without it");
  if (!options.choices.empty() && !options.against.empty())
    return fail(ErrorCode::kInvalidArgument, "--against has no meaning with --choices");
  if (!options.pictures.empty() && options.against.empty())
    return fail(ErrorCode::kInvalidArgument,
                "--pictures compares: --against names the other file of the model");
  if (options.pictures.empty() && (options.steps > 0 || options.size > 0 || options.seed > 0))
    return fail(ErrorCode::kInvalidArgument, "--steps, --size and --seed are of --pictures");
  return {};
}

int eval(EvalArguments options) {
  // A comparison is of the model, not of a session's window: every token of a window is seen.
  options.bounds.attention = "full";
  if (auto checked = check_measurement(options); !checked) return complain(checked.error());
  if (options.stride > options.bounds.context)
    return complain(
        {ErrorCode::kInvalidArgument,
         strf("--stride {} is longer than --context {}: tokens between the windows would be left out",
              options.stride, options.bounds.context)});
  options.bounds.context_given = true;
  if (auto checked = check_bounds(options.bounds); !checked) return complain(checked.error());
  const auto backend = find_backend(options.bounds);
  if (!backend) return complain(backend.error());
  catch_interrupts();
  ProgressBar bar;
  const auto report = evaluate(options, **backend, bar);
  bar.clear();
  if (!report) return complain_input(report.error());
  if (options.json)
    std::printf("%s\n", report->dump(2, ' ', false, Report::error_handler_t::replace).c_str());
  else if (!options.pictures.empty())
    print_pictures(*report);
  else if (!options.choices.empty())
    print_choices(*report);
  else
    print_report(*report);
  return kOk;
}

}  // namespace

void add_eval(CommandLine& line) {
  const auto options = std::make_shared<EvalArguments>();
  options->bounds.context = 512;
  options->bounds.cache = "f32";
  options->bounds.threads = default_threads();
  Command command = line.command(
      "eval", "How well a language model predicts a text, and how far it is from another file of it");
  command.option("MODEL", options->path, "a Linnet file (.lnt)").required();
  command.option("--text", options->text, "the text, UTF-8");
  command.option(
      "--choices", options->choices,
      "instead: questions with several answers, a JSON object a line: {\"prompt\": \"...\", \"choices\": "
      "[\" one\", \" two\"], \"answer\": 0}");
  command.option(
      "--pictures", options->pictures,
      "instead, of an image model: how far its pictures are from those of --against at equal seeds; a file "
      "with a prompt (or the number of a class) a line");
  command.option("--steps", options->steps, "of --pictures: steps of each (without it: the model's)")
      .between(1, 1000);
  command.option("--size", options->size, "of --pictures: side in pixels (without it: the model's)")
      .between(int64_t{1}, int64_t{16384});
  command.option("--seed", options->seed,
                 "of --pictures: of the first picture; each that follows has the next");
  command.option(
      "--against", options->against,
      "another file of the same model: also the KL divergence from it, and how often both choose the same");
  command
      .option("--context", options->bounds.context,
              "tokens of a window; each is seen afresh, and its first token is not scored")
      .between(int64_t{2}, int64_t{1} << 24)
      .shows_default();
  command
      .option("--stride", options->stride,
              "from one window to the next; less than --context gives every token more to go by (without it: "
              "the same)")
      .between(int64_t{1}, int64_t{1} << 24);
  command.option("--tokens", options->tokens, "only so many of the text")
      .between(int64_t{2}, int64_t{1} << 40);
  command.option("--threads", options->bounds.threads, "threads to run on").between(1, 1024).shows_default();
  std::vector<std::string> backends = backend_choices();
  command.option("--backend", options->bounds.backend, backend_help()).one_of(backends).shows_default();
  add_memory_limit(command, options->bounds.memory_limit);
  command.flag("--json", options->json, "one JSON object");
  command.does([options] { return eval(*options); });
}

}  // namespace linnet::app
