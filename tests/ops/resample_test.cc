#include <doctest/doctest.h>

#include "tests/ops/golden_file.h"
#include "tests/ops/op_check.h"

using namespace linnet;
using namespace linnet::testing;

TEST_CASE("resample: like the reference for every kind, layout and ratio of channels") {
  check_op(36, [](OpBuilder& op, Random& random) {
    using Kind = fb::ResampleKind;
    fb::ResampleT args;
    args.kind = random.choice({Kind::Nearest, Kind::Shuffle, Kind::Unshuffle});
    const int64_t f = random.pick(1, 4), ratio = random.choice({1, 1, 2, 3}), base = random.pick(1, 5);
    args.factor = static_cast<int>(f);
    args.channels_last = args.kind != Kind::Nearest && ratio == 1 && random.chance(0.5);
    args.planar_input = random.chance(0.3);
    args.planar_output = random.chance(0.3);
    const bool down = args.kind == Kind::Unshuffle;
    // Wide: the channels of the small image; narrow: those of the large one.
    int64_t small = base, large = base;
    if (args.kind == Kind::Shuffle) {
      small = base * f * f;  // ratio: each channel is repeated
      large = base * ratio;
    } else if (down) {
      large = base * ratio;
      small = base * f * f;
    }
    const int64_t height = random.pick(1, 5), width = random.pick(1, 7);
    op.symbol("height", height, 6);
    op.symbol("width", width, 9);
    const auto shape = [&](bool planar, int64_t times, int64_t channels) {
      const Extent h("height", static_cast<int>(times)), w("width", static_cast<int>(times));
      return planar ? std::vector<Extent>{channels, h, w} : std::vector<Extent>{h, w, channels};
    };
    op.args(args);
    op.tolerance(6e-7);  // reached: 6e-8
    op.input(shape(args.planar_input, down ? f : 1, down ? large : small));
    const auto out = shape(args.planar_output, down ? 1 : f, down ? small : large);
    if (random.chance(0.3)) op.input(out);
    op.output(out);
  });
}

TEST_CASE("resample: by hand") {
  const auto run = [](fb::ResampleKind kind, bool last, std::vector<Extent> from, std::vector<float> x,
                      std::vector<Extent> to) {
    return make_op([&](OpBuilder& b, Random&) {
      fb::ResampleT args;
      args.kind = kind;
      args.factor = 2;
      args.channels_last = last;
      b.args(args);
      b.input(from, exactly(x));
      b.output(to);
    });
  };
  using Kind = fb::ResampleKind;
  check_op_equals(*run(Kind::Nearest, false, {1, 2, 1}, {1, 2}, {2, 4, 1}), {{1, 1, 2, 2, 1, 1, 2, 2}}, 0);
  check_op_equals(*run(Kind::Shuffle, false, {1, 1, 4}, {1, 2, 3, 4}, {2, 2, 1}), {{1, 2, 3, 4}}, 0);
  // Two channels, each repeated twice: the upper row is the first.
  check_op_equals(*run(Kind::Shuffle, false, {1, 1, 2}, {1, 2}, {2, 2, 1}), {{1, 1, 2, 2}}, 0);
  check_op_equals(*run(Kind::Unshuffle, false, {2, 2, 2}, {1, 10, 2, 20, 3, 30, 4, 40}, {1, 1, 8}),
                  {{1, 2, 3, 4, 10, 20, 30, 40}}, 0);
  check_op_equals(*run(Kind::Unshuffle, true, {2, 2, 2}, {1, 10, 2, 20, 3, 30, 4, 40}, {1, 1, 8}),
                  {{1, 10, 2, 20, 3, 30, 4, 40}}, 0);
  check_op_equals(*run(Kind::Unshuffle, false, {2, 2, 2}, {1, 10, 2, 20, 3, 30, 4, 40}, {1, 1, 2}),
                  {{2.5f, 25}}, 0);
}

TEST_CASE("resample: golden, DC-AE's shortcuts up and down and the unpatchify of DiT") {
  const GoldenFile golden("resample");
  const auto run = [&](fb::ResampleKind kind, bool last, bool planar, const char* x, std::vector<Extent> from,
                       std::vector<Extent> to) {
    return make_op([&](OpBuilder& b, Random&) {
      fb::ResampleT args;
      args.kind = kind;
      args.factor = 2;
      args.channels_last = last;
      args.planar_output = planar;
      b.args(args);
      b.input(from, exactly(golden[x]));
      b.output(to);
    });
  };
  using Kind = fb::ResampleKind;
  check_op_equals(*run(Kind::Shuffle, false, false, "x", {4, 6, 12}, {8, 12, 6}), {golden["up"]}, 0);
  check_op_equals(*run(Kind::Unshuffle, false, false, "x", {4, 6, 12}, {2, 3, 24}), {golden["down"]}, 1e-6);
  check_op_equals(*run(Kind::Shuffle, true, true, "x", {4, 6, 12}, {3, 8, 12}), {golden["unpatchified"]}, 0);
}
