/* linnet/linnet.h as a program in C11 uses it: every function, with success, errors and null pointers.
 *
 * usage: linnet_c_tests MODEL.lnt FOLDER-TO-WRITE-IN
 */
#include "linnet/linnet.h"

#include <math.h>
#include <stdlib.h>

#include "check.h"

int checks_made = 0, checks_failed = 0;

/* What a program that was compiled against an older header relies on. */
_Static_assert(LINNET_OK == 0 && LINNET_INVALID_ARGUMENT == 1 && LINNET_INVALID_FILE == 2 &&
                   LINNET_UNSUPPORTED == 3 && LINNET_NOT_FOUND == 4 && LINNET_IO == 5 &&
                   LINNET_OUT_OF_MEMORY == 6 && LINNET_POISONED == 7 && LINNET_NUMERIC == 8 &&
                   LINNET_CANCELLED == 9 && LINNET_INTERNAL == 10,
               "the statuses keep their numbers");
_Static_assert(sizeof(((linnet_error*)0)->message) == 512, "messages have 511 bytes and a zero");

static const char *model_path, *folder;

static const char* in_folder(const char* name) {
  static char path[4096];
  snprintf(path, sizeof(path), "%s/%s", folder, name);
  return path;
}

/* An error that holds neither a status nor a text of ours. */
static linnet_error unset(void) {
  linnet_error error;
  memset(&error, 'x', sizeof(error));
  return error;
}

static void check_error(linnet_status found, const linnet_error* error, linnet_status expected,
                        const char* text) {
  CHECK(found == expected);
  CHECK(error->status == expected);
  CHECK(memchr(error->message, '\0', sizeof(error->message)) != NULL);
  CHECK_TEXT(error->message, text);
}

static linnet_chat_options sampled(void) {
  linnet_chat_options options;
  linnet_chat_options_init(&options);
  options.temperature = 1.0f;
  options.seed = 7;
  options.max_tokens = 12;
  return options;
}

static linnet_chat* chat_of(const linnet_model* model, const linnet_chat_options* options) {
  linnet_error error = unset();
  linnet_chat* chat = linnet_chat_create(model, linnet_backend_cpu(NULL), options, &error);
  if (!CHECK(chat != NULL)) {
    fprintf(stderr, "%s\n", error.message);
    exit(1);
  }
  CHECK(error.status == LINNET_OK);
  CHECK(error.message[0] == '\0');
  return chat;
}

/* ---- models and backends ---------------------------------------------------------------------------------
 */

static void test_models(void) {
  linnet_error error = unset();
  linnet_model* model = linnet_model_open(model_path, &error);
  CHECK(model != NULL);
  CHECK(error.status == LINNET_OK);
  CHECK(error.message[0] == '\0');
  linnet_model_free(model);
  linnet_model_free(NULL);

  error = unset();
  CHECK(linnet_model_open("/nowhere/model.lnt", &error) == NULL);
  check_error(LINNET_NOT_FOUND, &error, error.status, "/nowhere/model.lnt");
  CHECK(error.status == LINNET_NOT_FOUND || error.status == LINNET_IO);
  CHECK(linnet_model_open("/nowhere/model.lnt", NULL) == NULL);

  error = unset();
  CHECK(linnet_model_open(NULL, &error) == NULL);
  check_error(LINNET_INVALID_ARGUMENT, &error, LINNET_INVALID_ARGUMENT, "path is NULL");
  CHECK(linnet_model_open(NULL, NULL) == NULL);

  /* A file of another kind, and one cut short. */
  const char* other = in_folder("other.lnt");
  FILE* file = fopen(other, "wb");
  CHECK(file != NULL && fputs("this is no model", file) >= 0 && fclose(file) == 0);
  error = unset();
  CHECK(linnet_model_open(other, &error) == NULL);
  check_error(LINNET_INVALID_FILE, &error, LINNET_INVALID_FILE, "other.lnt");

  /* A message longer than the struct is cut between characters; a path of two-byte characters makes one. */
  for (size_t start = 0; start < 2; ++start) {
    char long_path[2001];
    memset(long_path, 'a', sizeof(long_path));
    for (size_t i = start; i + 1 < sizeof(long_path); i += 2) memcpy(long_path + i, "\xc3\xa9", 2);
    long_path[sizeof(long_path) - 1] = '\0';
    if (start == 1) long_path[sizeof(long_path) - 2] = 'a';
    error = unset();
    CHECK(linnet_model_open(long_path, &error) == NULL);
    CHECK(error.status != LINNET_OK);
    const size_t length = strlen(error.message);
    CHECK(length == 511 || length == 510);
    /* Its last character is whole. */
    CHECK((error.message[length - 1] & 0x80) == 0 ||
          ((error.message[length - 1] & 0xC0) == 0x80 && (error.message[length - 2] & 0xE0) == 0xC0));
  }
}

static void test_backends(void) {
  linnet_error error = unset();
  const linnet_backend* cpu = linnet_backend_cpu(&error);
  CHECK(cpu != NULL);
  CHECK(error.status == LINNET_OK);
  CHECK(error.message[0] == '\0');
  CHECK(linnet_backend_cpu(NULL) == cpu);
  CHECK(linnet_backend_reference() != NULL);
  CHECK(linnet_backend_reference() != cpu);
}

/* ---- sizes -----------------------------------------------------------------------------------------------
 */

static linnet_memory memory_of(const linnet_model* model, const linnet_chat_options* options) {
  linnet_error error = unset();
  linnet_memory memory;
  memset(&memory, 0, sizeof(memory));
  CHECK(linnet_chat_memory(model, linnet_backend_cpu(NULL), options, &memory, &error) == LINNET_OK);
  CHECK(error.status == LINNET_OK);
  return memory;
}

static void test_memory(const linnet_model* model) {
  linnet_chat_options options;
  memset(&options, 'x', sizeof(options));
  linnet_chat_options_init(&options);
  linnet_chat_options_init(NULL);
  CHECK(options.threads == 0 && options.chunk == 0 && options.full_attention == 0 && options.window == 0);
  CHECK(options.sinks == -1 && options.context == 0 && options.cache_bits == 0 && options.state_bits == 0);
  CHECK(options.system == NULL && options.temperature < 0 && options.top_k < 0 && options.top_p < 0);
  CHECK(options.min_p < 0 && options.repetition_penalty < 0 && options.max_tokens == -1 && options.raw == 0);
  CHECK(options.checkpoint_bytes > 0);

  const linnet_memory defaults = memory_of(model, &options), without = memory_of(model, NULL);
  CHECK(memcmp(&defaults, &without, sizeof(defaults)) == 0);
  CHECK(defaults.weights_bytes > 0 && defaults.state_bytes > 0 && defaults.work_bytes > 0);
  CHECK(defaults.history_bytes > 0 && defaults.history_bytes <= options.checkpoint_bytes);
  options.cache_bits = 16;
  CHECK(memory_of(model, &options).state_bytes == defaults.state_bytes);
  options.cache_bits = 32;
  CHECK(memory_of(model, &options).state_bytes > defaults.state_bytes);
  options.window = 64;
  const linnet_memory narrow = memory_of(model, &options);
  CHECK(narrow.state_bytes < defaults.state_bytes);
  options.chunk = 8;
  CHECK(memory_of(model, &options).work_bytes < narrow.work_bytes);
  options.full_attention = 1;
  options.context = 100;
  const size_t hundred = memory_of(model, &options).state_bytes;
  options.context = 200;
  CHECK(memory_of(model, &options).state_bytes > hundred);
  options.checkpoint_bytes = 0;
  CHECK(memory_of(model, &options).history_bytes == 0);

  const linnet_backend* cpu = linnet_backend_cpu(NULL);
  linnet_memory memory;
  linnet_error error = unset();
  check_error(linnet_chat_memory(NULL, cpu, NULL, &memory, &error), &error, LINNET_INVALID_ARGUMENT,
              "model is NULL");
  check_error(linnet_chat_memory(model, NULL, NULL, &memory, &error), &error, LINNET_INVALID_ARGUMENT,
              "backend is NULL");
  check_error(linnet_chat_memory(model, cpu, NULL, NULL, &error), &error, LINNET_INVALID_ARGUMENT,
              "memory is NULL");
  CHECK(linnet_chat_memory(NULL, NULL, NULL, NULL, NULL) == LINNET_INVALID_ARGUMENT);
}

/* ---- options that are refused, by name -------------------------------------------------------------------
 */

static void check_refused(const linnet_model* model, const linnet_chat_options* options, const char* name) {
  linnet_error error = unset();
  CHECK(linnet_chat_create(model, linnet_backend_cpu(NULL), options, &error) == NULL);
  check_error(error.status, &error, LINNET_INVALID_ARGUMENT, name);
  CHECK(linnet_chat_create(model, linnet_backend_cpu(NULL), options, NULL) == NULL);
}

static void test_options(const linnet_model* model) {
  linnet_error error = unset();
  CHECK(linnet_chat_create(NULL, linnet_backend_cpu(NULL), NULL, &error) == NULL);
  check_error(error.status, &error, LINNET_INVALID_ARGUMENT, "model is NULL");
  CHECK(linnet_chat_create(model, NULL, NULL, &error) == NULL);
  check_error(error.status, &error, LINNET_INVALID_ARGUMENT, "backend is NULL");

#define REFUSED(member, value)               \
  do {                                       \
    linnet_chat_options options = sampled(); \
    options.member = value;                  \
    check_refused(model, &options, #member); \
  } while (0)
  REFUSED(threads, -1);
  REFUSED(chunk, -1);
  REFUSED(window, -1);
  REFUSED(context, -1);
  REFUSED(sinks, -2);
  REFUSED(cache_bits, 4);
  REFUSED(state_bits, 8);
  REFUSED(max_tokens, -2);
  REFUSED(temperature, NAN);
  REFUSED(top_p, INFINITY);
  REFUSED(min_p, NAN);
  REFUSED(repetition_penalty, INFINITY);
#undef REFUSED
  linnet_chat_free(NULL);
  linnet_chat_free(chat_of(model, NULL)); /* the defaults */
}

/* ---- conversations ---------------------------------------------------------------------------------------
 */

typedef struct heard {
  char text[4096];
  size_t bytes;
  int pieces, most_pieces; /* at the last of which it asks to stop; 0: never */
  int ends_in_zero;
} heard;

static int on_text(void* context, const char* text, size_t bytes) {
  heard* h = context;
  if (strlen(text) != bytes && memchr(text, '\0', bytes) == NULL) h->ends_in_zero = 0;
  if (text[bytes] != '\0') h->ends_in_zero = 0;
  if (h->bytes + bytes < sizeof(h->text)) {
    memcpy(h->text + h->bytes, text, bytes);
    h->bytes += bytes;
    h->text[h->bytes] = '\0';
  }
  return ++h->pieces != h->most_pieces;
}

static heard nothing_heard(int most_pieces) {
  heard h;
  memset(&h, 0, sizeof(h));
  h.most_pieces = most_pieces;
  h.ends_in_zero = 1;
  return h;
}

static void test_turns(const linnet_model* model) {
  const linnet_chat_options options = sampled();
  linnet_chat *chat = chat_of(model, &options), *other = chat_of(model, &options);
  CHECK(strcmp(linnet_chat_answer(chat), "") == 0);

  linnet_error error = unset();
  linnet_turn turn;
  memset(&turn, 'x', sizeof(turn));
  heard h = nothing_heard(0);
  CHECK(linnet_chat_send(chat, "Hello", on_text, &h, &turn, &error) == LINNET_OK);
  CHECK(error.status == LINNET_OK && error.message[0] == '\0');
  CHECK(h.pieces > 0 && h.bytes > 0 && h.ends_in_zero);
  CHECK(strcmp(linnet_chat_answer(chat), h.text) == 0);
  CHECK(turn.reused_tokens == 0 && turn.rerun_tokens == 0 && turn.new_tokens > 0);
  CHECK(turn.answer_tokens > 0 && turn.answer_tokens <= 12);
  CHECK(turn.first_token_seconds > 0 && turn.prefill_tokens_per_second > 0);
  CHECK(turn.decode_tokens_per_second > 0 || turn.answer_tokens < 2);
  CHECK(turn.complete == 0 || turn.complete == 1);

  /* With neither a callback nor statistics nor an error the answer is the same. */
  CHECK(linnet_chat_send(other, "Hello", NULL, NULL, NULL, NULL) == LINNET_OK);
  CHECK(strcmp(linnet_chat_answer(other), linnet_chat_answer(chat)) == 0);

  /* The second turn reuses the first. */
  CHECK(linnet_chat_send(chat, "And on", NULL, NULL, &turn, &error) == LINNET_OK);
  CHECK(turn.reused_tokens > 0);
  char second[4096];
  snprintf(second, sizeof(second), "%s", linnet_chat_answer(chat));

  /* Undo takes the second turn back, and the last answer is the first again. */
  CHECK(linnet_chat_undo(chat, &error) == LINNET_OK);
  CHECK(strcmp(linnet_chat_answer(chat), h.text) == 0);
  CHECK(linnet_chat_undo(chat, NULL) == LINNET_OK);
  CHECK(strcmp(linnet_chat_answer(chat), "") == 0);
  check_error(linnet_chat_undo(chat, &error), &error, LINNET_INVALID_ARGUMENT, "nothing to take back");
  check_error(linnet_chat_regenerate(chat, NULL, NULL, NULL, &error), &error, LINNET_INVALID_ARGUMENT,
              "no message");

  /* Answered anew: the message stays. */
  heard again = nothing_heard(0);
  CHECK(linnet_chat_regenerate(other, on_text, &again, &turn, &error) == LINNET_OK);
  CHECK(again.pieces > 0 && strcmp(linnet_chat_answer(other), again.text) == 0);
  CHECK(turn.answer_tokens > 0);
  CHECK(linnet_chat_regenerate(other, NULL, NULL, NULL, NULL) == LINNET_OK);
  CHECK(linnet_chat_undo(other, &error) == LINNET_OK);
  CHECK(linnet_chat_undo(other, &error) == LINNET_INVALID_ARGUMENT);

  /* Reset forgets; the next answer is a new chat's. */
  CHECK(linnet_chat_send(other, "Something else", NULL, NULL, NULL, &error) == LINNET_OK);
  CHECK(linnet_chat_reset(other, &error) == LINNET_OK);
  CHECK(strcmp(linnet_chat_answer(other), "") == 0);
  CHECK(linnet_chat_reset(other, NULL) == LINNET_OK);
  CHECK(linnet_chat_send(other, "Hello", NULL, NULL, &turn, &error) == LINNET_OK);
  CHECK(turn.answer_tokens > 0);
  linnet_chat_free(other);
  linnet_chat_free(chat);
}

static void test_stop(const linnet_model* model) {
  linnet_chat_options options = sampled();
  options.max_tokens = 1000;
  linnet_chat* chat = chat_of(model, &options);
  linnet_error error = unset();
  linnet_turn turn;
  heard h = nothing_heard(3);
  CHECK(linnet_chat_send(chat, "Hello", on_text, &h, &turn, &error) == LINNET_OK);
  CHECK(h.pieces == 3);
  CHECK(turn.complete == 0);
  CHECK(turn.answer_tokens < 1000);
  /* What was said until then stays. */
  CHECK(h.bytes > 0 && strcmp(linnet_chat_answer(chat), h.text) == 0);
  linnet_chat_free(chat);
}

static void test_messages_refused(const linnet_model* model) {
  const linnet_chat_options options = sampled();
  linnet_chat* chat = chat_of(model, &options);
  linnet_error error = unset();
  check_error(linnet_chat_send(chat, "", NULL, NULL, NULL, &error), &error, LINNET_INVALID_ARGUMENT, "empty");
  check_error(linnet_chat_send(chat, "abc\xc3(", NULL, NULL, NULL, &error), &error, LINNET_INVALID_ARGUMENT,
              "offset 3");
  check_error(linnet_chat_send(chat, NULL, NULL, NULL, NULL, &error), &error, LINNET_INVALID_ARGUMENT,
              "text is NULL");
  CHECK(linnet_chat_undo(chat, NULL) == LINNET_INVALID_ARGUMENT); /* none of them is in the conversation */

  linnet_turn turn;
  check_error(linnet_chat_send(NULL, "Hello", NULL, NULL, &turn, &error), &error, LINNET_INVALID_ARGUMENT,
              "chat is NULL");
  check_error(linnet_chat_regenerate(NULL, NULL, NULL, NULL, &error), &error, LINNET_INVALID_ARGUMENT,
              "chat is NULL");
  check_error(linnet_chat_undo(NULL, &error), &error, LINNET_INVALID_ARGUMENT, "chat is NULL");
  check_error(linnet_chat_reset(NULL, &error), &error, LINNET_INVALID_ARGUMENT, "chat is NULL");
  check_error(linnet_chat_save(NULL, "x", &error), &error, LINNET_INVALID_ARGUMENT, "chat is NULL");
  check_error(linnet_chat_load(NULL, "x", &error), &error, LINNET_INVALID_ARGUMENT, "chat is NULL");
  check_error(linnet_chat_save(chat, NULL, &error), &error, LINNET_INVALID_ARGUMENT, "path is NULL");
  check_error(linnet_chat_load(chat, NULL, &error), &error, LINNET_INVALID_ARGUMENT, "path is NULL");
  CHECK(linnet_chat_save(NULL, NULL, NULL) == LINNET_INVALID_ARGUMENT);
  CHECK(strcmp(linnet_chat_answer(NULL), "") == 0);
  linnet_chat_free(chat);
}

static void test_full_context(const linnet_model* model) {
  linnet_chat_options options = sampled();
  options.full_attention = 1;
  options.context = 40;
  linnet_chat* chat = chat_of(model, &options);
  char text[201];
  memset(text, 'x', sizeof(text) - 1);
  text[sizeof(text) - 1] = '\0';
  linnet_error error = unset();
  check_error(linnet_chat_send(chat, text, NULL, NULL, NULL, &error), &error, LINNET_INVALID_ARGUMENT, "40");
  linnet_chat_free(chat);
}

static void test_files(const linnet_model* model) {
  const linnet_chat_options options = sampled();
  linnet_chat *chat = chat_of(model, &options), *other = chat_of(model, &options);
  linnet_error error = unset();
  char path[4096];
  snprintf(path, sizeof(path), "%s", in_folder("chat.state"));
  CHECK(linnet_chat_send(chat, "First", NULL, NULL, NULL, &error) == LINNET_OK);
  CHECK(linnet_chat_save(chat, path, &error) == LINNET_OK);
  CHECK(linnet_chat_send(other, "Something else altogether", NULL, NULL, NULL, &error) == LINNET_OK);
  CHECK(linnet_chat_load(other, path, &error) == LINNET_OK);
  CHECK(strcmp(linnet_chat_answer(other), linnet_chat_answer(chat)) == 0);
  linnet_turn turn;
  CHECK(linnet_chat_send(chat, "Second", NULL, NULL, NULL, &error) == LINNET_OK);
  CHECK(linnet_chat_send(other, "Second", NULL, NULL, &turn, &error) == LINNET_OK);
  CHECK(turn.reused_tokens > 0);
  CHECK(strcmp(linnet_chat_answer(other), linnet_chat_answer(chat)) == 0);

  /* Neither a missing file nor another's changes the conversation. */
  char before[4096];
  snprintf(before, sizeof(before), "%s", linnet_chat_answer(other));
  CHECK(linnet_chat_load(other, in_folder("missing.state"), &error) != LINNET_OK);
  CHECK(error.status == LINNET_NOT_FOUND || error.status == LINNET_IO);
  CHECK_TEXT(error.message, "missing.state");
  check_error(linnet_chat_load(other, model_path, &error), &error, LINNET_INVALID_FILE, "state file");
  CHECK(strcmp(linnet_chat_answer(other), before) == 0);
  CHECK(linnet_chat_save(other, "/nowhere/chat.state", &error) != LINNET_OK);
  CHECK(error.status == LINNET_IO || error.status == LINNET_NOT_FOUND);
  CHECK_TEXT(error.message, "/nowhere/chat.state");
  linnet_chat_free(other);
  linnet_chat_free(chat);
}

static void test_reference_agrees(const linnet_model* model) {
  linnet_chat_options options = sampled();
  options.temperature = 0;
  options.max_tokens = 4;
  linnet_chat* chat = chat_of(model, &options);
  linnet_error error = unset();
  linnet_chat* slow = linnet_chat_create(model, linnet_backend_reference(), &options, &error);
  CHECK(slow != NULL);
  CHECK(linnet_chat_send(chat, "Hello", NULL, NULL, NULL, &error) == LINNET_OK);
  CHECK(linnet_chat_send(slow, "Hello", NULL, NULL, NULL, &error) == LINNET_OK);
  CHECK(strcmp(linnet_chat_answer(chat), linnet_chat_answer(slow)) == 0);
  CHECK(linnet_chat_answer(chat)[0] != '\0');
  linnet_chat_free(slow);
  linnet_chat_free(chat);
}

/* A chat goes on when the model it came from is freed. */
static void test_model_freed_first(void) {
  linnet_model* model = linnet_model_open(model_path, NULL);
  CHECK(model != NULL);
  const linnet_chat_options options = sampled();
  linnet_chat* chat = chat_of(model, &options);
  linnet_model_free(model);
  linnet_error error = unset();
  CHECK(linnet_chat_send(chat, "Hello", NULL, NULL, NULL, &error) == LINNET_OK);
  CHECK(linnet_chat_answer(chat)[0] != '\0');
  linnet_chat_free(chat);
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s MODEL.lnt FOLDER\n", argv[0]);
    return 2;
  }
  model_path = argv[1];
  folder = argv[2];
  test_models();
  test_backends();
  linnet_model* model = linnet_model_open(model_path, NULL);
  if (!CHECK(model != NULL)) return 1;
  test_memory(model);
  test_options(model);
  test_turns(model);
  test_stop(model);
  test_messages_refused(model);
  test_full_context(model);
  test_files(model);
  test_reference_agrees(model);
  linnet_model_free(model);
  test_model_freed_first();
  printf("%d checks, %d failed\n", checks_made, checks_failed);
  return checks_failed == 0 && checks_made > 0 ? 0 : 1;
}
