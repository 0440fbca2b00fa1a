#include "apps/eval_choices.h"

#include <cmath>
#include <cstdio>
#include <sstream>

#include "converter/readers/json.h"
#include "runtime/core/strings.h"
#include "runtime/text/tokenizer.h"

namespace linnet::app {
namespace {

using Report = nlohmann::ordered_json;

struct Question {
  std::string prompt;
  std::vector<std::string> choices;
  size_t answer = 0;
  int64_t line = 0;
};

const nlohmann::json* first_of(const nlohmann::json& object, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const auto found = object.find(name); found != object.end()) return &*found;
  return nullptr;
}

Result<Question> read_question(const std::string& text, const std::string& path, int64_t line) {
  const auto wrong = [&](const std::string& what) {
    return fail(ErrorCode::kInvalidFile,
                strf("'{}' line {}: {}; a question is {{\"prompt\": text, \"choices\": [texts], "
                     "\"answer\": place from 0}}",
                     path, line, what));
  };
  const auto object = nlohmann::json::parse(text, nullptr, false);
  if (!object.is_object()) return wrong("this is no JSON object");
  const auto* prompt = first_of(object, {"prompt", "question", "context", "ctx"});
  const auto* choices = first_of(object, {"choices", "endings", "options"});
  const auto* answer = first_of(object, {"answer", "label", "gold"});
  Question question;
  question.line = line;
  if (!prompt || !prompt->is_string()) return wrong("there is no text named 'prompt'");
  if (!choices || !choices->is_array() || choices->size() < 2) return wrong("there are no two 'choices'");
  for (const auto& choice : *choices) {
    if (!choice.is_string() || choice.get<std::string>().empty()) return wrong("a choice is no text");
    question.choices.push_back(choice.get<std::string>());
  }
  question.prompt = prompt->get<std::string>();
  int64_t place = -1;
  if (answer && answer->is_number_integer()) {
    place = answer->get<int64_t>();
  } else if (answer && answer->is_string()) {
    const auto letters = answer->get<std::string>();
    if (letters.size() == 1 && letters[0] >= 'A' && letters[0] <= 'Z') place = letters[0] - 'A';
    if (letters.size() == 1 && letters[0] >= '0' && letters[0] <= '9') place = letters[0] - '0';
  }
  if (place < 0 || place >= static_cast<int64_t>(question.choices.size()))
    return wrong("'answer' names none of the choices");
  question.answer = static_cast<size_t>(place);
  return question;
}

Result<std::vector<Question>> read_questions(const std::string& path) {
  LINNET_ASSIGN(const std::string text, convert::read_text(path));
  std::vector<Question> questions;
  std::istringstream lines(text);
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    LINNET_ASSIGN(Question question, read_question(line, path, number));
    questions.push_back(std::move(question));
  }
  if (questions.empty()) return fail(ErrorCode::kInvalidFile, strf("'{}' has no questions", path));
  return questions;
}

// The sum of the log probabilities of tokens [first, end), each after all before it.
Result<double> log_probability(Scorer& scorer, std::span<const int32_t> tokens, size_t first) {
  LINNET_TRY(scorer.begin());
  const auto vocabulary = static_cast<size_t>(scorer.vocabulary()),
             chunk = static_cast<size_t>(scorer.chunk());
  double sum = 0;
  for (size_t at = 0; at + 1 < tokens.size();) {
    const size_t count = std::min(chunk, tokens.size() - 1 - at);
    LINNET_ASSIGN(const std::span<const float> rows, scorer.run(tokens.subspan(at, count)));
    for (size_t i = 0; i < count; ++i) {
      if (at + i + 1 < first) continue;
      const auto row = rows.subspan(i * vocabulary, vocabulary);
      size_t largest;
      sum += static_cast<double>(row[static_cast<size_t>(tokens[at + i + 1])]) - log_sum(row, largest);
    }
    at += count;
  }
  return sum;
}

}  // namespace

Result<Report> evaluate_choices(const std::string& path, Scorer& scorer, int64_t context,
                                const std::function<bool(uint64_t done, uint64_t total)>& progress) {
  LINNET_ASSIGN(const std::vector<Question> questions, read_questions(path));
  const text::Tokenizer& tokenizer = *scorer.model().tokenizer();
  int64_t right = 0, right_by_bytes = 0;
  for (size_t q = 0; q < questions.size(); ++q) {
    if (!progress(q, questions.size())) return fail(ErrorCode::kCancelled, "stopped");
    const Question& question = questions[q];
    LINNET_ASSIGN(const std::vector<int32_t> prompt, tokenizer.encode(question.prompt));
    size_t best = 0, best_by_bytes = 0;
    double most = 0, most_by_bytes = 0;
    for (size_t c = 0; c < question.choices.size(); ++c) {
      // As one text, so that a word that both ends have a part in is cut as it would be.
      LINNET_ASSIGN(const std::vector<int32_t> whole,
                    tokenizer.encode(question.prompt + question.choices[c]));
      size_t first = 0;
      while (first < prompt.size() && first < whole.size() && prompt[first] == whole[first]) ++first;
      first = std::clamp<size_t>(first, 1, std::max<size_t>(whole.size(), 2) - 1);
      if (static_cast<int64_t>(whole.size()) > context)
        return fail(ErrorCode::kInvalidArgument,
                    strf("'{}' line {}: {} tokens are more than the context of {}: raise --context", path,
                         question.line, whole.size(), context));
      if (whole.size() < 2)
        return fail(ErrorCode::kInvalidFile,
                    strf("'{}' line {}: an empty prompt with a choice of one token leaves nothing to score",
                         path, question.line));
      LINNET_ASSIGN(const double score, log_probability(scorer, whole, first));
      if (!std::isfinite(score))
        return fail(ErrorCode::kNumeric,
                    strf("'{}' line {}: the model's logits are not finite", path, question.line));
      const double by_bytes = score / static_cast<double>(question.choices[c].size());
      if (c == 0 || score > most) most = score, best = c;
      if (c == 0 || by_bytes > most_by_bytes) most_by_bytes = by_bytes, best_by_bytes = c;
    }
    right += best == question.answer;
    right_by_bytes += best_by_bytes == question.answer;
  }
  const auto n = static_cast<double>(questions.size());
  const auto error = [n](double share) { return std::sqrt(share * (1 - share) / n); };
  const double share = static_cast<double>(right) / n, by_bytes = static_cast<double>(right_by_bytes) / n;
  return Report{{"questions", questions.size()},
                {"accuracy", share},
                {"accuracy_error", error(share)},
                {"accuracy_by_bytes", by_bytes},
                {"accuracy_by_bytes_error", error(by_bytes)}};
}

void print_choices(const Report& r) {
  const auto percent = [&](const char* key) { return 100 * r[key].get<double>(); };
  std::printf("%lld questions: %.2f%% +- %.2f%% right; by probability a byte %.2f%% +- %.2f%%\n",
              r["questions"].get<long long>(), percent("accuracy"), percent("accuracy_error"),
              percent("accuracy_by_bytes"), percent("accuracy_by_bytes_error"));
}

}  // namespace linnet::app
