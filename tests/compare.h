// How far results are from the truth, and what a test could not do: for every test that has a bound or a
// skip.
//
// A value that is not finite, on either side, is infinitely far from everything, and a truth that is empty or
// zero throughout is a failure: a comparison with it would prove nothing.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace linnet::testing {

// Infinity if a value is not finite.
double largest_magnitude(std::span<const float> values);

// Fails the test if `truth` is empty, not finite or zero throughout. `what` names it.
void check_truth(std::string_view what, std::span<const float> truth);

// |found - truth|, the largest. Infinity if sizes differ or a value is not finite.
double largest_difference(std::span<const float> found, std::span<const float> truth);

// largest_difference() over the truth's largest magnitude; infinity for a truth that is zero throughout.
double relative_difference(std::span<const float> found, std::span<const float> truth);

// Root of the mean squared difference over that of the truth; infinity as above.
double relative_error(std::span<const float> found, std::span<const float> truth);

// Peak signal to noise in dB for values in a range of this width: infinite where all are equal, -infinity
// where largest_difference() is infinite.
double psnr(std::span<const float> found, std::span<const float> truth, double range);

// CHECKs of a bound. With LINNET_TEST_REACHED=FILE in the environment every bound of the process is appended
// to FILE, as "share of the bound, reached, bound, times, test, what" with tabs between: how the bounds were
// measured.
void check_below(std::string_view what, double reached, double bound);
void check_psnr(std::string_view what, double reached, double bound);  // reached >= bound, in dB
// The record alone, for a test that compares with code of its own.
void note_reached(std::string_view what, double reached, double bound);

// Says that the running test leaves something out and why; the executable counts them and prints each reason
// with the number of its test cases.
void skipped(const std::string& reason);

}  // namespace linnet::testing
