// What test_main.cc prints when all tests have run.
#pragma once

#include <ostream>

namespace linnet::testing {
// The skips, each reason once; and the file LINNET_TEST_REACHED.
void write_report(std::ostream& out);
}  // namespace linnet::testing
