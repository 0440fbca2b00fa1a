// linnet inspect: what a model file holds and what running it takes.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "apps/bounds_options.h"
#include "apps/common.h"
#include "apps/devices.h"
#include "apps/inspect_diff.h"
#include "apps/model_info.h"
#include "format/verify.h"
#include "linnet/model.h"
#include "runtime/core/strings.h"
#include "runtime/text/printable.h"

namespace linnet::app {
namespace {

using Json = nlohmann::ordered_json;

struct InspectArguments {
  std::string path, diff;
  bool tensors = false, nodes = false, memory = false, verify = false, json = false, devices = false;
  std::vector<std::string> symbols;
  BoundsOptions bounds;
};

std::string type_of(fb::DType dtype) { return std::string(dtype_name(format::to_dtype(dtype))); }

Json value_json(const fb::ModelT& model, const fb::MethodT& method, int index) {
  const fb::ValueT& value = *method.values[static_cast<size_t>(index)];
  return {
      {"name", value.name}, {"type", type_of(value.dtype)}, {"shape", graph::shape_text(model, value.shape)}};
}

Json methods_json(const fb::ModelT& model, bool nodes) {
  Json methods = Json::array();
  for (const auto& method : model.methods) {
    Json m = {{"name", method->name}, {"inputs", Json::array()}, {"outputs", Json::array()}};
    for (const int input : method->inputs) m["inputs"].push_back(value_json(model, *method, input));
    for (const int output : method->outputs) m["outputs"].push_back(value_json(model, *method, output));
    m["ops"] = ops_of(*method);
    if (nodes) {
      m["nodes"] = Json::array();
      for (const auto& node : method->nodes) {
        Json n = {{"name", node->name}, {"op", graph::op_info(graph::op_kind(node->args.type)).name}};
        const auto names = [&](const char* role, const std::vector<int>& indices, const auto& name_of) {
          if (indices.empty()) return;
          n[role] = Json::array();
          for (const int i : indices)
            n[role].push_back(i < 0 ? Json() : Json(name_of(static_cast<size_t>(i))));
        };
        const auto value_name = [&](size_t i) { return method->values[i]->name; };
        names("inputs", node->inputs, value_name);
        names("weights", node->weights, [&](size_t i) { return model.weights[i]->name; });
        names("states", node->states, [&](size_t i) { return model.states[i]->name; });
        names("outputs", node->outputs, value_name);
        m["nodes"].push_back(std::move(n));
      }
    }
    methods.push_back(std::move(m));
  }
  return methods;
}

Json describe(const Model& loaded, const InspectArguments& options) {
  const fb::ModelT& model = loaded.file().model();
  Json out = {{"file", loaded.file().name()},
              {"file_bytes", loaded.file().file_bytes()},
              {"format_version", format::kFormatVersion}};
  char id[24];
  std::snprintf(id, sizeof(id), "%016llx", static_cast<unsigned long long>(loaded.file().model_id()));
  out["model_id"] = id;
  out["metadata"] = Json::object();
  for (const auto& entry : model.metadata) out["metadata"][entry->key] = entry->value;
  out["parameters"] = parameter_count(model);
  out["weights"] = Json::object();
  for (const auto& [type, totals] : weights_by_type(model))
    out["weights"][type] = {
        {"tensors", totals.tensors}, {"parameters", totals.parameters}, {"bytes", totals.bytes}};
  out["methods"] = methods_json(model, options.nodes);
  out["states"] = Json::array();
  for (const auto& state : model.states)
    out["states"].push_back({{"name", state->name},
                             {"role", fb::EnumNameStateRole(state->role)},
                             {"type", type_of(state->dtype)},
                             {"shape", graph::shape_text(model, state->shape)}});
  if (model.tokenizer)
    out["tokenizer"] = {{"kind", fb::EnumNameTokenizerKind(model.tokenizer->kind)},
                        {"pieces", model.tokenizer->pieces.size()},
                        {"added_tokens", model.tokenizer->added_tokens.size()}};
  out["chat_template"] = !model.chat_template.empty();
  if (options.tensors) {
    out["tensors"] = Json::array();
    for (const auto& weight : model.weights)
      out["tensors"].push_back({{"name", weight->name},
                                {"type", type_of(weight->dtype)},
                                {"layout", weight->layout == fb::Layout::Panel ? "panel" : "row-major"},
                                {"shape", weight->shape},
                                {"bytes", weight->bytes}});
  }
  return out;
}

Result<Json> memory_json(const Model& loaded, const InspectArguments& options) {
  LINNET_TRY(check_bounds(options.bounds));
  LINNET_ASSIGN(const auto symbols, parse_symbols(options.symbols));
  LINNET_ASSIGN(const std::shared_ptr<const Backend> backend, find_backend(options.bounds));
  const EngineOptions engine = engine_options(options.bounds, symbols);
  LINNET_ASSIGN(const MemoryRequired memory, Engine::memory_required(loaded.file(), *backend, engine));
  Json out = {{"backend", options.bounds.backend},
              {"attention", options.bounds.attention},
              {"chunk", options.bounds.chunk},
              {"threads", options.bounds.threads},
              {"cache", options.bounds.cache}};
  if (options.bounds.attention == "full") {
    out["context"] = options.bounds.context;
  } else {
    out["window"] = options.bounds.window;
    out["sinks"] = options.bounds.sinks;
  }
  out["weights_bytes"] = memory.weights_bytes;
  out["state_bytes"] = memory.state_bytes;
  out["work_bytes"] = memory.work_bytes;
  out["backend_bytes"] = memory.backend_bytes;
  return out;
}

// What files say may hold anything (runtime/text/printable.h).
std::string text(const Json& value) {
  return text::printable_line(value.is_string() ? value.get<std::string>() : value.dump());
}

void print_values(const char* role, const Json& values) {
  for (const Json& v : values)
    std::printf("    %-7s %s %s %s\n", role, text(v["name"]).c_str(), text(v["type"]).c_str(),
                text(v["shape"]).c_str());
}

void print_methods(const Json& methods) {
  for (const Json& m : methods) {
    std::printf("method %s\n", text(m["name"]).c_str());
    print_values("input", m["inputs"]);
    print_values("output", m["outputs"]);
    std::string ops;
    for (const auto& [op, count] : m["ops"].items())
      ops += strf("{}{} x {}", ops.empty() ? "" : ", ", op, text(count));
    std::printf("    ops     %s\n", ops.c_str());
    if (!m.contains("nodes")) continue;
    for (const Json& n : m["nodes"]) {
      std::string operands;
      for (const char* role : {"inputs", "weights", "states", "outputs"}) {
        if (!n.contains(role)) continue;
        operands += strf("  {}:", role);
        for (const Json& name : n[role]) operands += strf(" {}", name.is_null() ? "-" : text(name));
      }
      std::printf("    node    %s = %s%s\n", text(n["name"]).c_str(), text(n["op"]).c_str(),
                  operands.c_str());
    }
  }
}

void print_memory(const Json& m) {
  const auto bytes = [&](const char* key) { return human_bytes(m[key].get<uint64_t>()); };
  std::string bounds = m.contains("context")
                           ? strf("full attention over {} tokens", text(m["context"]))
                           : strf("window of {} tokens + {} sinks", text(m["window"]), text(m["sinks"]));
  std::printf("memory for one session (%s, keys and values in %s, chunk %s, %s, threads: %s)\n",
              bounds.c_str(), text(m["cache"]).c_str(), text(m["chunk"]).c_str(), text(m["backend"]).c_str(),
              text(m["threads"]).c_str());
  std::printf("    weights %-12s mapped from the file, shared between sessions\n",
              bytes("weights_bytes").c_str());
  std::printf("    state   %-12s fixed, whatever the length of the conversation\n",
              bytes("state_bytes").c_str());
  std::printf("    work    %-12s activations and scratch\n", bytes("work_bytes").c_str());
  std::printf("    backend %-12s threads, and copies on a GPU\n", bytes("backend_bytes").c_str());
}

// States named alike but for a layer number are one line: "layers.*.keys".
void print_states(const Json& states) {
  std::vector<std::pair<std::string, int>> groups;
  for (const Json& s : states) {
    std::string name = text(s["name"]), pattern;
    for (size_t i = 0; i < name.size(); ++i) {
      if (name[i] < '0' || name[i] > '9')
        pattern += name[i];
      else if (pattern.empty() || pattern.back() != '*')
        pattern += '*';
    }
    std::string line = strf("{} {} {} ({})", pattern, text(s["type"]), text(s["shape"]), text(s["role"]));
    if (groups.empty() || groups.back().first != line) {
      const auto known =
          std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == line; });
      if (known != groups.end()) {
        ++known->second;
        continue;
      }
      groups.emplace_back(std::move(line), 0);
    }
    ++groups.back().second;
  }
  for (const auto& [line, count] : groups) std::printf("state %4d x %s\n", count, line.c_str());
}

void print_description(const Json& out) {
  std::printf("file      %s, %s, format version %s, id %s\n", text(out["file"]).c_str(),
              human_bytes(out["file_bytes"].get<uint64_t>()).c_str(), text(out["format_version"]).c_str(),
              text(out["model_id"]).c_str());
  for (const auto& [key, value] : out["metadata"].items())
    std::printf("%-9s %s\n", text::printable_line(key).c_str(), text(value).c_str());
  std::printf("parameters %s\n", human_count(out["parameters"].get<int64_t>()).c_str());
  for (const auto& [type, t] : out["weights"].items())
    std::printf("    %-5s %6s tensors  %16s parameters  %12s\n", type.c_str(), text(t["tensors"]).c_str(),
                human_count(t["parameters"].get<int64_t>()).c_str(),
                human_bytes(t["bytes"].get<uint64_t>()).c_str());
  print_methods(out["methods"]);
  print_states(out["states"]);
  if (out.contains("tokenizer"))
    std::printf("tokenizer %s, %s pieces, %s added tokens; chat template: %s\n",
                text(out["tokenizer"]["kind"]).c_str(), text(out["tokenizer"]["pieces"]).c_str(),
                text(out["tokenizer"]["added_tokens"]).c_str(),
                out["chat_template"].get<bool>() ? "yes" : "no");
  if (out.contains("tensors"))
    for (const Json& t : out["tensors"])
      std::printf("tensor %s %s %s %s %s\n", text(t["name"]).c_str(), text(t["type"]).c_str(),
                  t["shape"].dump().c_str(), text(t["layout"]).c_str(),
                  human_bytes(t["bytes"].get<uint64_t>()).c_str());
  print_memory(out["memory"]);
}

int inspect_diff(const InspectArguments& options) {
  const auto a = Model::open(options.path);
  if (!a) return complain_input(a.error());
  const auto b = Model::open(options.diff);
  if (!b) return complain_input(b.error());
  catch_interrupts();
  ProgressBar bar;
  const auto found = difference(**a, **b, [&](uint64_t done, uint64_t total) {
    bar.show("comparing", done, total);
    return !interrupted();
  });
  bar.clear();
  if (!found) return complain(found.error());
  if (options.json)
    std::printf("%s\n", found->dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  else
    print_difference(*found, options.path, options.diff);
  return kOk;
}

int inspect(const InspectArguments& options) {
  if (options.devices) return list_devices(options.json);
  if (options.path.empty())
    return complain({ErrorCode::kInvalidArgument, "which MODEL? Give a Linnet file (.lnt), or --devices"});
  if (!options.diff.empty()) return inspect_diff(options);
  const auto model = Model::open(options.path);
  if (!model) return complain_input(model.error());
  Json out = describe(**model, options);
  auto memory = memory_json(**model, options);
  if (!memory) return complain_input(memory.error());
  out["memory"] = std::move(*memory);
  if (options.verify) {
    catch_interrupts();
    ProgressBar bar;
    const auto checked = (*model)->file().verify_checksums([&](uint64_t done, uint64_t total) {
      bar.show("verifying", done, total);
      return !interrupted();
    });
    bar.clear();
    if (!checked) return complain_input(checked.error());
    out["checksums"] = "ok";
  }
  if (options.json) {
    std::printf("%s\n", out.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  } else {
    print_description(out);
    if (options.verify) std::printf("checksums ok\n");
  }
  return kOk;
}

}  // namespace

void add_inspect(CommandLine& line) {
  const auto options = std::make_shared<InspectArguments>();
  Command command = line.command("inspect", "What a model file holds, and the memory that running it takes");
  command.option("MODEL", options->path, "a Linnet file (.lnt)");
  command.flag("--devices", options->devices, "instead: the GPUs of this machine, their limits and features");
  command.option("--diff", options->diff,
                 "instead: what differs in another Linnet file, such as the same model in another precision");
  command.flag("--tensors", options->tensors, "list every weight");
  command.flag("--nodes", options->nodes, "list every node of every method");
  // The plan is always printed; the flag is accepted so that asking for it is no error.
  command.flag("--memory", options->memory, "memory plan at the given bounds (always shown)");
  command.flag("--verify", options->verify, "read every weight and compare the checksums");
  command.flag("--json", options->json, "one JSON object");
  command.option("--symbol", options->symbols,
                 "bound of a symbol of the model, as NAME=VALUE; may be repeated");
  add_bounds_options(command, options->bounds);
  command.does([options] { return inspect(*options); });
}

}  // namespace linnet::app
