#include "tests/compare.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <map>
#include <mutex>

#include "tests/test_report.h"

namespace linnet::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Reached {
  double share = -1, reached = 0, bound = 0;
  size_t times = 0;
};
struct Records {
  std::mutex mutex;
  std::map<std::string, Reached> reached;
  std::map<std::string, std::map<std::string, size_t>> skips;  // reason: test: times
};
Records& records() {
  static Records all;
  return all;
}

std::string running_test() {
  const auto* test = doctest::getContextOptions()->currentTest;
  return test ? test->m_name : "";
}

void note(std::string_view what, double share, double reached, double bound) {
  static const bool wanted = std::getenv("LINNET_TEST_REACHED") != nullptr;
  if (!wanted) return;
  const std::lock_guard lock(records().mutex);
  Reached& record = records().reached[running_test() + "\t" + std::string(what)];
  ++record.times;
  if (!(share <= record.share)) {
    record.share = share;
    record.reached = reached;
    record.bound = bound;
  }
}

// Of the differences and of the truth; false if a value is not finite or sizes differ.
bool squares(std::span<const float> found, std::span<const float> truth, double& apart, double& size) {
  apart = size = 0;
  if (found.size() != truth.size()) return false;
  for (size_t i = 0; i < found.size(); ++i) {
    const auto a = static_cast<double>(found[i]), b = static_cast<double>(truth[i]);
    if (!std::isfinite(a) || !std::isfinite(b)) return false;
    apart += (a - b) * (a - b);
    size += b * b;
  }
  return true;
}

}  // namespace

double largest_magnitude(std::span<const float> values) {
  double most = 0;
  for (const float v : values) {
    if (!std::isfinite(v)) return kInfinity;
    most = std::max(most, std::fabs(static_cast<double>(v)));
  }
  return most;
}

void check_truth(std::string_view what, std::span<const float> truth) {
  const std::string name(what);
  REQUIRE_MESSAGE(!truth.empty(), name, ": the truth is empty");
  const double most = largest_magnitude(truth);
  REQUIRE_MESSAGE(std::isfinite(most), name, ": the truth has a value that is not finite");
  REQUIRE_MESSAGE(most > 0, name, ": the truth is zero throughout");
}

double largest_difference(std::span<const float> found, std::span<const float> truth) {
  if (found.size() != truth.size()) return kInfinity;
  double most = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    if (!std::isfinite(found[i]) || !std::isfinite(truth[i])) return kInfinity;
    most = std::max(most, std::fabs(static_cast<double>(found[i]) - static_cast<double>(truth[i])));
  }
  return most;
}

double relative_difference(std::span<const float> found, std::span<const float> truth) {
  const double most = largest_magnitude(truth);
  return most > 0 && std::isfinite(most) ? largest_difference(found, truth) / most : kInfinity;
}

double relative_error(std::span<const float> found, std::span<const float> truth) {
  double apart = 0, size = 0;
  return squares(found, truth, apart, size) && size > 0 ? std::sqrt(apart / size) : kInfinity;
}

double psnr(std::span<const float> found, std::span<const float> truth, double range) {
  double apart = 0, size = 0;
  if (!squares(found, truth, apart, size) || found.empty()) return -kInfinity;
  return 10 * std::log10(range * range * static_cast<double>(found.size()) / apart);
}

void note_reached(std::string_view what, double reached, double bound) {
  note(what, bound > 0 ? reached / bound : reached > 0 ? kInfinity : 0, reached, bound);
}
void check_below(std::string_view what, double reached, double bound) {
  note_reached(what, reached, bound);
  CHECK_MESSAGE(reached <= bound, std::string(what), ": ", reached, " is above ", bound);
}
void check_psnr(std::string_view what, double reached, double bound) {
  note(what, std::pow(10, (bound - reached) / 20), reached, bound);
  CHECK_MESSAGE(reached >= bound, std::string(what), ": ", reached, " dB is below ", bound);
}

void skipped(const std::string& reason) {
  const std::lock_guard lock(records().mutex);
  ++records().skips[reason][running_test()];
}

void write_report(std::ostream& out) {
  const std::lock_guard lock(records().mutex);
  for (const auto& [reason, tests] : records().skips)
    out << "SKIPPED in " << tests.size() << (tests.size() == 1 ? " test case: " : " test cases: ") << reason
        << "\n";
  if (const char* path = std::getenv("LINNET_TEST_REACHED")) {
    std::ofstream file(path, std::ios::app);
    for (const auto& [what, r] : records().reached)
      file << r.share << "\t" << r.reached << "\t" << r.bound << "\t" << r.times << "\t" << what << "\n";
  }
}

}  // namespace linnet::testing
