# Splits what flatc makes of format/model.fbs in three, because nearly every file needs the native structs and only those
# that read or write the bytes of a head need the rest, which costs a second and a half of compile time in each:
#   format/model_generated.h    enums and their names, native structs (ModelT, NodeT, ...)
#   format/model_tables.h       tables, builders, verifiers, packing and unpacking, type tables
#   format/model_generated.cc   the native structs' copying, and the union's, which both need
# Run with -v native= -v tables= -v source=. Whatever it does not know goes into the first: slower, never wrong.
# A table's name must not end in T or Union.

function put(file, text) { printf "%s", text > file }

# Where a declaration goes, by what stands before its first parenthesis.
function place(text,    head) {
  head = text
  sub(/\(.*/, "", head)
  if (text ~ /^struct [A-Za-z0-9_]+ FLATBUFFERS_FINAL_CLASS/ || head ~ /^struct [A-Za-z0-9_]+Builder \{/ ||
      head ~ /^struct [A-Za-z0-9_]+::Traits/ || text ~ /^template<> inline/ || text ~ /^bool Verify/ ||
      text ~ /^(::)?flatbuffers::Offset/)
    return tables
  if (text ~ /^inline/) {
    if (head ~ /Enum(Names?|Values)[A-Za-z0-9_]+$/ || text ~ /TypeTable\(\);\n$/ || text ~ /^inline const [A-Za-z0-9_]+ \(/)
      return native
    if (head ~ /[ *&][A-Za-z0-9_]+(T|Union)::[^:]+$/) return source
    return tables
  }
  return native
}

BEGIN {
  put(tables, "// Made by cmake/split_schema.awk from flatc's header.\n#pragma once\n\n#include \"format/model_generated.h\"\n\n")
  put(source, "// Made by cmake/split_schema.awk from flatc's header.\n#include \"format/model_tables.h\"\n\n")
}

# Inside a declaration: it ends with a brace in the first column or, where there was none, with a semicolon.
chunk != "" {
  chunk = chunk $0 "\n"
  if ($0 ~ /\{$/) braces = 1
  if ($0 ~ /^\}/ || (!braces && $0 ~ /;$/)) finish()
  next
}
/^namespace / || /^\}  \/\/ namespace/ {
  put(native, $0 "\n"); put(tables, $0 "\n"); put(source, $0 "\n")
  inside = 1
  next
}
inside && /^[A-Za-z:]/ {
  chunk = $0 "\n"
  braces = $0 ~ /\{$/
  if ((!braces && $0 ~ /;$/) || $0 ~ /[;}]\};?$/) finish()
  next
}
{ put(native, $0 "\n") }

function finish(    file) {
  file = place(chunk)
  if (file == source) sub(/^inline /, "", chunk)
  put(file, chunk "\n")
  chunk = ""
}
