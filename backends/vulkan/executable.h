// A model prepared for one session on a device: its buffers, and command buffers recorded once for each
// method and values of the symbols and then replayed.
#pragma once

#include <optional>

#include "backends/vulkan/vectors.h"
#include "runtime/engine/backend.h"

namespace linnet::vulkan {

class VulkanExecutable final : public Executable {
 public:
  static Result<std::unique_ptr<Executable>> create(std::shared_ptr<Device> device,
                                                    const Compilation& compilation);

  Result<void> run(size_t method, std::span<const int64_t> symbols, int64_t position) override;
  Result<bool> run_for_largest(size_t method, std::span<const int64_t> symbols, int64_t position,
                               size_t value, size_t elements, std::span<Ranked> best) override;
  Result<int> first_non_finite(size_t method, std::span<const int64_t> symbols, int64_t position) override;
  Result<void> write_value(size_t method, size_t value, std::span<const std::byte> bytes) override;
  Result<void> read_value(size_t method, size_t value, std::span<std::byte> bytes) override;
  std::span<const std::byte> host_value(size_t method, size_t value) override;
  Result<void> write_vector(size_t vector, std::span<const float> values) override;
  Result<void> read_vector(size_t vector, std::span<float> values) override;
  Result<bool> apply(std::span<const VectorOp> ops, const Watched& watched) override;
  Result<void> write_state(std::span<const std::byte> block) override;
  Result<void> read_state(std::span<std::byte> block) override;

 public:
  ~VulkanExecutable() override;

 private:
  // A value that crosses between host and device through `host_`, in the same submission as the run.
  struct Crossing {
    size_t value = 0, host_offset = 0, bytes = 0;
  };
  struct Method {
    std::vector<plan::Buffer> values, scratch;  // offsets on the device
    std::vector<Crossing> inputs, outputs;      // empty on unified memory; without the vectors' values
  };
  // What a run gives of an output in place of the whole: run_for_largest().
  struct Largest {
    size_t value = 0, elements = 0, count = 0;  // count 0: all outputs are given
    bool operator==(const Largest&) const = default;
  };
  struct Recording {
    size_t method = 0;
    std::vector<int64_t> symbols;
    Largest largest;
    Region found;  // the result of `largest`
    uint64_t last_used = 0;
    RecordCounts counts;
    std::vector<TableUse> uses;
    bool filled = false;
  };

  VulkanExecutable(std::shared_ptr<Device> device, const Compilation& c);
  Result<void> prepare();
  Result<void> make_vectors();
  bool stays(size_t method, size_t value) const;  // is one of the vectors' values
  void place_work();
  void place_state();
  Operands operands(size_t method, size_t node, std::vector<TableUse>& uses);
  // The dispatches of nodes [first, last), recorded with the copies of inputs before and of outputs after
  // them.
  Result<void> record(size_t commands, Recording& recording, size_t first, size_t last);
  // The copies of outputs, and what there is to find in them.
  Result<void> record_outputs(VkCommandBuffer to, Recording& recording, Recorder& recorder);
  Result<size_t> recording(size_t method, std::span<const int64_t> symbols, const Largest& largest);
  // Runs a recording; it is there until the next call.
  Result<const Recording*> replay(size_t method, std::span<const int64_t> symbols, int64_t position,
                                  const Largest& largest);
  Region value_region(size_t method, size_t value) const;
  size_t output_of(size_t method) const {
    return static_cast<size_t>(file_.model().methods[method]->outputs[0]);
  }
  VkQueryPool clocks(size_t commands) const {
    return commands < clocks_.size() ? clocks_[commands] : VK_NULL_HANDLE;
  }
  Result<void> count_times(size_t commands, const Recording& recording);
  Result<void> write_parameters(int64_t position, const std::vector<TableUse>& uses);
  Result<void> out_of_range(size_t given, size_t planned) const;

  std::shared_ptr<Device> device_;
  const format::ModelFile& file_;
  const plan::Bounds& bounds_;
  const plan::Plan& plan_;
  const VectorPlan& vector_plan_;
  int tokens_symbol_ = -1;
  std::shared_ptr<const Weights> weights_;
  Buffer work_, state_, params_, host_, read_back_;  // the last two only where the host cannot address work_
  Buffer largest_;                                   // only where a method ends in logits
  size_t read_back_largest_ = 0;                     // where they go in read_back_
  size_t left_method_ = 0;  // with left_value_: the output that the last run left on the device, or -1
  int left_value_ = -1;
  Transfer transfer_;
  Commands commands_;  // one for each recording, and a last one for single nodes
  std::unique_ptr<Descriptors> descriptors_;
  std::optional<DeviceVectors> vectors_;  // where the plan has any
  std::vector<Method> methods_;
  std::vector<size_t> state_offsets_;
  std::vector<HostTable> tables_;
  std::vector<Recording> recordings_;
  // With profiling: of each recording, the time before each node and after the last.
  std::vector<VkQueryPool> clocks_;
  std::vector<uint64_t> ticks_;
  size_t work_bytes_ = 0, state_bytes_ = 0, params_bytes_ = 0;
  uint64_t uses_ = 0;
};

}  // namespace linnet::vulkan
