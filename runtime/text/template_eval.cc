#include "runtime/text/template_eval.h"

#include <algorithm>

#include "runtime/core/strings.h"

namespace linnet::text::jinja {

Evaluator::~Evaluator() {
  // Rings of values are opened before anything is freed.
  for (const auto& ns : namespaces) {
    std::vector<std::pair<std::string, Value>> dropped;
    dropped.swap(ns->attributes);
  }
  for (const auto& activation : kept) {
    std::vector<Value> dropped;
    dropped.swap(activation->slots);
  }
}

ActivationPtr Evaluator::activate(const FunctionNode& node, ActivationPtr around) {
  auto a = std::make_shared<Activation>();
  a->charge(&account, sizeof(Activation) + 64 + static_cast<size_t>(node.slots) * sizeof(Value));
  a->slots.resize(static_cast<size_t>(node.slots));
  a->around = std::move(around);
  if (node.has_inner) kept.push_back(a);
  return a;
}

Value& Evaluator::slot(const Slot& s) {
  Activation* a = here.get();
  for (int i = 0; i < s.up; ++i) a = a->around.get();
  return a->slots[static_cast<size_t>(s.index)];
}

void Evaluator::enter(const Scope& scope) {
  for (const Load& load : scope.loads) {
    Value& v = here->slots[static_cast<size_t>(load.slot)];
    if (load.kind == Load::kResolve) v = resolve(load.name);
    if (load.kind == Load::kAlias) v = Value(slot(load.from));
    if (load.kind == Load::kUndefined) v = Value();
  }
}

void Evaluator::leave(const Scope& scope) {
  for (const Load& load : scope.loads) here->slots[static_cast<size_t>(load.slot)] = Value();
}

void Evaluator::render(const FunctionNode& root) {
  here = activate(root, nullptr);
  enter(root.scope);
  run(root.body);
}

Evaluator::Flow Evaluator::run(const Block& block) {
  for (const auto& s : block) {
    line = s->line;
    step();
    const Flow flow = run(*s);
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::run(const Stmt& s) {
  stack.check();
  switch (s.kind) {
    case StmtKind::kText:
      step_bytes(s.text.size());
      out.add(s.text);
      break;
    case StmtKind::kOutput:
      for (const ExprPtr& o : s.outputs) {
        const auto constant = o->constant && o->slices ? folded(*o) : std::nullopt;
        write(out, constant ? *constant : eval(*o));
      }
      break;
    case StmtKind::kFor:
      return run_for(s);
    case StmtKind::kIf:
      for (const auto& [condition, body] : s.branches)
        if (!condition || truthy(eval(*condition))) return run(body);
      break;
    case StmtKind::kSet: {
      const auto check = [&](const Expr& t) {
        if (t.kind != ExprKind::kAttribute) return;
        const Value ns = eval(*t.items[0]);
        if (!ns.object() || ns.obj().kind != Object::kNamespace)
          fail_with(strf("'{}' is not a namespace, and nothing can be assigned to its attributes",
                         t.items[0]->text));
      };
      check(*s.target);
      if (s.target->kind == ExprKind::kTuple)
        for (const ExprPtr& t : s.target->items) check(*t);
      assign(*s.target, eval(*s.expr));
      break;
    }
    case StmtKind::kSetBlock:
    case StmtKind::kFilterBlock:
      return run_captured(s);
    case StmtKind::kMacro:
      here->slots[static_cast<size_t>(s.slot)] =
          Value(ObjectPtr(heap.object(std::make_shared<Macro>(s.function.get(), here), 1)));
      break;
    case StmtKind::kCall:
      run_call_block(s);
      break;
    case StmtKind::kWith:
      return run_with(s);
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::run_captured(const Stmt& s) {
  enter(s.scope);
  Flow flow = Flow::kNormal;
  Value value = captured([&] { flow = run(s.body); });
  if (flow != Flow::kNormal) return flow;  // out of a loop around it: what was captured is dropped
  if (s.expr) value = eval_filter(*s.expr, &value);
  if (s.target)
    assign(*s.target, value);
  else
    write_text(value);
  leave(s.scope);
  return flow;
}

Evaluator::Flow Evaluator::run_with(const Stmt& s) {
  enter(s.scope);
  for (size_t i = 0; i < s.targets.size(); ++i) assign(*s.targets[i], eval(*s.outputs[i]));
  const Flow flow = run(s.body);
  leave(s.scope);
  return flow;
}

// What blocks give is joined as it is, and so must be a text.
void Evaluator::write_text(const Value& v) {
  if (!v.text()) fail_with(strf("a block gives a {} instead of a text", type_name(v)));
  write(out, v);
}

void Evaluator::run_call_block(const Stmt& s) {
  const Value caller(ObjectPtr(heap.object(std::make_shared<Macro>(s.function.get(), here), 1)));
  if (!s.expr) {  // {% generation %}
    Arguments none;
    write(out, call(caller, none));
    return;
  }
  const Value callee = eval(*s.expr->items[0]);
  Arguments args = arguments(*s.expr, 1);
  args.named.emplace_back("caller", caller);
  line = s.line;
  write_text(call(callee, args));
}

void Evaluator::assign(const Expr& target, const Value& value) {
  switch (target.kind) {
    case ExprKind::kStore:
      slot(target.slot) = value;
      return;
    case ExprKind::kAttribute:
      return set_attribute(static_cast<Namespace&>(eval(*target.items[0]).obj()), target.text, value);
    default:
      break;
  }
  const IteratorPtr items = iterate(value);
  List values;
  while (auto v = items->next(*this)) {
    step();
    values.push_back(std::move(*v));
    if (values.size() > target.items.size()) fail_with("more values than names to assign them to");
  }
  if (values.size() < target.items.size()) fail_with("fewer values than names to assign them to");
  for (size_t i = 0; i < values.size(); ++i) assign(*target.items[i], values[i]);
}

Evaluator::Flow Evaluator::run_for(const Stmt& s) {
  const Value iterable = eval(*s.expr);
  if (s.recursive) {
    write(out, run_recursive(s, iterable, here, 0));
    return Flow::kNormal;
  }
  return run_loop(s, iterable, here, 0);
}

Value Evaluator::run_recursive(const Stmt& s, const Value& iterable, ActivationPtr around, int depth) {
  stack.check();
  const ActivationPtr outer = std::exchange(here, activate(*s.function, around));
  Value text = captured([&] { run_loop(s, iterable, around, depth); });
  here = outer;
  return text;
}

Evaluator::Flow Evaluator::run_loop(const Stmt& s, const Value& iterable, ActivationPtr around, int depth) {
  Value walked = iterable;
  if (s.condition) {
    const ActivationPtr function = activate(*s.condition, around);
    const IteratorPtr source = iterate(iterable);
    bool begun = false;
    walked = wrapped(generator(iterable.depth() + 1,
                               [&s, function, source, begun](Evaluator& e) mutable -> std::optional<Value> {
                                 const ActivationPtr outer = std::exchange(e.here, function);
                                 if (!std::exchange(begun, true)) e.enter(s.condition->scope);
                                 std::optional<Value> v;
                                 while ((v = source->next(e))) {
                                   e.step();
                                   e.assign(*s.condition_target, *v);
                                   if (truthy(e.eval(*s.condition_expr))) break;
                                 }
                                 e.here = outer;
                                 return v;
                               }));
  }
  std::shared_ptr<Loop> loop;
  IteratorPtr source;
  if (s.loop >= 0) {
    loop = heap.object(std::make_shared<Loop>(), 1);
    loop->iterable = walked;
    loop->source = iterate(walked);
    loop->depth0 = depth;
    if (s.recursive) {
      loop->recursive = &s;
      loop->around = around;
    }
  } else {
    source = iterate(walked);
  }
  bool any = false;
  while (true) {
    auto v = loop ? loop->advance(*this) : source->next(*this);
    if (!v) break;
    line = s.line;
    step();
    assign(*s.target, *v);
    if (loop) here->slots[static_cast<size_t>(s.loop)] = Value(ObjectPtr(loop));
    enter(s.scope);
    const Flow flow = run(s.body);
    any = any || flow == Flow::kNormal;
    if (flow == Flow::kBreak) break;
  }
  leave(s.scope);
  if (!any && !s.otherwise.empty()) {
    enter(s.otherwise_scope);
    const Flow flow = run(s.otherwise);
    leave(s.otherwise_scope);
    return flow;
  }
  return Flow::kNormal;
}

}  // namespace linnet::text::jinja
