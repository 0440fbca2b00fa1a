// Matrix kernels beside the limits of the machine, all in one process and interleaved, because absolute
// figures move from run to run (shared machines, virtual processors that change places) and ratios do not.
//
//   linnet_kernels_bench [--target NAME] [--threads N] [--rounds N] [--dtype NAME] [--rows N] [--small-pages]
//                        [--decode|--prefill]
//
// Decode: one row, matrices cycled through 256 MiB so that they come from memory; GB/s of weights and the
// share of the read bandwidth. Prefill: 512 rows; operations per second and the share of the peak of the
// arithmetic used (int8 dot products for block formats, f32 fused multiply-adds for the others).
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <random>
#include <string>
#include <vector>

#include "backends/cpu/matmul.h"
#include "backends/cpu/targets.h"
#include "backends/host/thread_pool.h"
#include "format/panel.h"

namespace linnet::cpu {
namespace {

struct Options {
  CpuTarget target = detect_best_target();
  int threads = 0;  // 0: 1 and 2
  int rounds = 7;
  int64_t rows = 512;
  bool huge_pages = true, decode = true, prefill = true;
  std::string dtype;
};

struct Shape {
  int64_t k, n;
};
constexpr Shape kShapes[] = {{576, 1536}, {1536, 576}, {2048, 8192}, {8192, 2048}};
constexpr size_t kStreamBytes = size_t{256} << 20;

// One thread: its own processor time, which other programs on the machine touch less. Several: the clock.
double now(int threads) {
  timespec t;
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

template <typename F>
double seconds(int threads, const F& f) {
  const double start = now(threads);
  f();
  return now(threads) - start;
}

std::byte* map_memory(size_t bytes, bool huge_pages) {
  void* p = mmap(nullptr, bytes + (4 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    std::fprintf(stderr, "cannot map %zu bytes\n", bytes);
    std::exit(2);
  }
  madvise(p, bytes + (4 << 20), huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  const auto address = (reinterpret_cast<uintptr_t>(p) + (2 << 20) - 1) & ~uintptr_t{(2 << 20) - 1};
  return reinterpret_cast<std::byte*>(address);
}

struct Samples {
  std::vector<double> values;
  void add(double v) { values.push_back(v); }
  double best() const { return *std::max_element(values.begin(), values.end()); }
  double median() const {
    std::vector<double> sorted = values;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 2];
  }
};

class Bench {
 public:
  Bench(const Options& options, int threads)
      : options_(options), kernels_(matmul_kernels(options.target)), pool_(threads) {
    memory_ = map_memory(kStreamBytes, options.huge_pages);
    std::mt19937_64 random(1);
    // Any bits are valid codes; scales must be ordinary numbers, or arithmetic meets NaN and subnormals.
    const std::vector<float> values = random_values(1 << 16);
    values_ = values;
  }

  void run() {
    for (const DType dtype : kWeightTypes) {
      if (!options_.dtype.empty() && dtype_name(dtype) != options_.dtype) continue;
      for (const Shape& shape : kShapes) {
        fill(dtype, shape);
        if (options_.decode) decode(dtype, shape);
        if (options_.prefill) prefill(dtype, shape);
      }
    }
  }

 private:
  std::vector<float> random_values(size_t count) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0.0f, 0.05f);
    std::vector<float> values(count);
    for (float& v : values) v = normal(random);
    return values;
  }

  // One panel packed for real, then copied over the whole stream.
  void fill(DType dtype, const Shape& shape) {
    panel_ = format::panel_bytes(dtype, shape.k);
    matrix_ = format::matrix_bytes(dtype, shape.n, shape.k);
    std::vector<float> rows(static_cast<size_t>(16 * shape.k));
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = values_[(i * 7919) % values_.size()];
    std::vector<std::byte> panel(panel_);
    format::pack_panel(dtype, rows.data(), 16, shape.k, panel.data());
    copies_ = static_cast<int64_t>(kStreamBytes / matrix_);
    const auto panels = static_cast<size_t>(copies_ * (shape.n / 16));
    for (size_t p = 0; p < panels; ++p) std::memcpy(memory_ + p * panel_, panel.data(), panel_);
  }

  double read_bandwidth() {
    const auto bytes = static_cast<int64_t>(kStreamBytes);
    const double t = seconds(pool_.threads(), [&] {
      pool_.parallel_for(bytes / 4096, 1, [&](int64_t begin, int64_t end) {
        sink_ = sink_ + kernels_.probes.read(memory_ + begin * 4096, static_cast<size_t>(end - begin) * 4096);
      });
    });
    return static_cast<double>(bytes) / t;
  }

  double peak(double (*probe)(int64_t)) {
    constexpr int64_t kIterations = 500000;
    double operations = 0;
    const double t = seconds(pool_.threads(), [&] {
      pool_.parallel_for(pool_.threads(), 1, [&](int64_t, int64_t) { operations = probe(kIterations); });
    });
    return operations * pool_.threads() / t;
  }

  MatmulArgs arguments(DType dtype, const Shape& shape, int64_t rows) {
    x_.assign(static_cast<size_t>(rows * shape.k), 0.0f);
    for (size_t i = 0; i < x_.size(); ++i) x_[i] = values_[(i * 31) % values_.size()];
    y_.assign(static_cast<size_t>(rows * shape.n), 0.0f);
    quantized_.resize(quantized_rows_bytes(rows, shape.k));
    kernels_.quantize_rows(x_.data(), rows, shape.k, shape.k, Refine::kNone, quantized_.data());
    MatmulArgs args;
    args.weights = memory_;
    args.n = args.y_stride = shape.n;
    args.k = shape.k;
    args.rows = rows;
    args.y = y_.data();
    args.x = is_quantized(dtype) ? static_cast<const void*>(quantized_.data()) : x_.data();
    args.x_stride =
        is_quantized(dtype) ? quantized_row_bytes(shape.k) : static_cast<size_t>(shape.k) * sizeof(float);
    return args;
  }

  void multiply(DType dtype, const MatmulArgs& args) {
    const auto function = kernels_.matmul[static_cast<size_t>(dtype)];
    pool_.parallel_for((args.n + 31) / 32, 1, [&](int64_t begin, int64_t end) {
      function(args, begin * 2, std::min(end * 2, format::panel_count(args.n)));
    });
  }

  void decode(DType dtype, const Shape& shape) {
    MatmulArgs args = arguments(dtype, shape, 1);
    Samples speed, limit;
    for (int round = 0; round < options_.rounds; ++round) {
      limit.add(read_bandwidth());
      const double t = seconds(pool_.threads(), [&] {
        for (int64_t copy = 0; copy < copies_; ++copy) {
          args.weights = memory_ + static_cast<size_t>(copy) * matrix_;
          multiply(dtype, args);
        }
      });
      speed.add(static_cast<double>(matrix_) * static_cast<double>(copies_) / t);
    }
    print("decode ", dtype, shape, speed, limit, "GB/s");
  }

  void prefill(DType dtype, const Shape& shape) {
    const MatmulArgs args = arguments(dtype, shape, options_.rows);
    Samples speed, limit, quantize;
    const double operations = 2.0 * static_cast<double>(shape.k * shape.n * options_.rows);
    const int repeats = std::max(1, static_cast<int>(1e9 / operations));
    for (int round = 0; round < options_.rounds; ++round) {
      limit.add(peak(is_quantized(dtype) ? kernels_.probes.int8 : kernels_.probes.f32));
      const double t = seconds(pool_.threads(), [&] {
        for (int i = 0; i < repeats; ++i) multiply(dtype, args);
      });
      speed.add(operations * repeats / t);
      const double q = seconds(pool_.threads(), [&] {
        kernels_.quantize_rows(x_.data(), args.rows, shape.k, shape.k, Refine::kNone, quantized_.data());
      });
      quantize.add(static_cast<double>(x_.size() * 4) / q);
    }
    print("prefill", dtype, shape, speed, limit, "GOPS");
    if (dtype == DType::kQ8)
      std::printf("  quantize_rows, one thread: %.1f GB/s of f32 read, %.2f ms for %lld rows\n",
                  quantize.best() / 1e9, static_cast<double>(x_.size() * 4) / quantize.best() * 1e3,
                  static_cast<long long>(args.rows));
  }

  void print(const char* what, DType dtype, const Shape& shape, const Samples& speed, const Samples& limit,
             const char* unit) const {
    std::printf(
        "%s t%d %-4s %5lld x %-5lld best %7.1f %s  median %7.1f | limit %7.1f | %5.1f%% (median %5.1f%%)\n",
        what, pool_.threads(), std::string(dtype_name(dtype)).c_str(), static_cast<long long>(shape.k),
        static_cast<long long>(shape.n), speed.best() / 1e9, unit, speed.median() / 1e9, limit.best() / 1e9,
        100 * speed.best() / limit.best(), 100 * speed.median() / limit.median());
    std::fflush(stdout);
  }

  Options options_;
  const MatmulKernels& kernels_;
  host::ThreadPool pool_;
  std::byte* memory_ = nullptr;
  size_t panel_ = 0, matrix_ = 0;
  int64_t copies_ = 0;
  std::vector<float> values_, x_, y_;
  std::vector<std::byte> quantized_;
  volatile uint64_t sink_ = 0;
};

int usage(const char* problem) {
  std::fprintf(stderr,
               "%s\nusage: linnet_kernels_bench [--target NAME] [--threads N] [--rounds N] [--dtype NAME] "
               "[--rows N] [--small-pages] [--decode|--prefill]\n",
               problem);
  return 2;
}

int run(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const bool more = i + 1 < argc;
    if (arg == "--small-pages") {
      options.huge_pages = false;
    } else if (arg == "--decode") {
      options.prefill = false;
    } else if (arg == "--prefill") {
      options.decode = false;
    } else if (arg == "--target" && more) {
      const auto target = target_from_name(argv[++i]);
      if (!target) return usage(target.error().message.c_str());
      options.target = *target;
    } else if (arg == "--threads" && more) {
      options.threads = std::atoi(argv[++i]);
    } else if (arg == "--rounds" && more) {
      options.rounds = std::max(1, std::atoi(argv[++i]));
    } else if (arg == "--rows" && more) {
      options.rows = std::max(2, std::atoi(argv[++i]));
    } else if (arg == "--dtype" && more) {
      options.dtype = argv[++i];
    } else {
      return usage(("unknown option " + arg).c_str());
    }
  }
  if (options.target == CpuTarget::kPortable)
    return usage("the portable target has no probes to compare with");
  std::printf("target %s, %lld rows, %d rounds, %s pages\n", std::string(target_name(options.target)).c_str(),
              static_cast<long long>(options.rows), options.rounds, options.huge_pages ? "huge" : "small");
  for (const int threads : {1, 2})
    if (options.threads == 0 || options.threads == threads) Bench(options, threads).run();
  return 0;
}

}  // namespace
}  // namespace linnet::cpu

int main(int argc, char** argv) { return linnet::cpu::run(argc, argv); }
