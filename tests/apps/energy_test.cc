#include "apps/energy.h"

#include <doctest/doctest.h>

#include "tests/apps/command.h"

namespace linnet::test {

TEST_CASE("the energy of all packages, not of their parts, through a counter's wrap") {
  const auto root = scratch() / "powercap";
  const auto set = [&](const std::string& zone, const std::string& value) {
    std::filesystem::create_directories(root / zone);
    write_file(root / zone / "energy_uj", value + "\n");
    write_file(root / zone / "max_energy_range_uj", "10000000\n");
  };
  CHECK_FALSE(app::EnergyMeter(root).available());  // there is no such folder
  set("intel-rapl:0", "9000000");
  set("intel-rapl:1", "100");
  set("intel-rapl:0:0", "5");
  app::EnergyMeter meter(root);
  REQUIRE(meter.available());
  CHECK(meter.joules() == 0.0);
  set("intel-rapl:0", "500000");
  set("intel-rapl:1", "250100");
  set("intel-rapl:0:0", "4000000");
  CHECK(meter.joules() == doctest::Approx(1.75));
  CHECK(meter.joules() == 0.0);
  std::filesystem::remove_all(root);
}

}  // namespace linnet::test
