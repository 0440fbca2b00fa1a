/* Linnet from C: open a model file, talk to it. The C++ API (linnet/session.h, linnet/chat.h) does more.
 *
 * Strings are UTF-8 and end in a zero byte. Every function that can fail returns a linnet_status (or NULL)
 * and writes a sentence for a person, cut to fit, into `error`, which may be NULL. The library keeps no
 * global state: objects are independent of each other, and one object serves one thread at a time. A model
 * may be shared by chats on several threads. A pointer that is NULL where none is allowed is
 * LINNET_INVALID_ARGUMENT, and the message names it.
 */
#ifndef LINNET_LINNET_H
#define LINNET_LINNET_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct linnet_model linnet_model;
typedef struct linnet_backend linnet_backend;
typedef struct linnet_chat linnet_chat;

typedef enum linnet_status {
  LINNET_OK = 0,
  LINNET_INVALID_ARGUMENT,
  LINNET_INVALID_FILE,
  LINNET_UNSUPPORTED,
  LINNET_NOT_FOUND,
  LINNET_IO,
  LINNET_OUT_OF_MEMORY,
  LINNET_POISONED,
  LINNET_NUMERIC,
  LINNET_CANCELLED,
  LINNET_INTERNAL
} linnet_status;

typedef struct linnet_error {
  linnet_status status;
  char message[512];
} linnet_error;

/* ---- models ----------------------------------------------------------------------------------------------
 */

/* Maps the file and verifies its structure. It must not change while the model or a chat of it lives. */
linnet_model* linnet_model_open(const char* path, linnet_error* error);
/* Chats of the model may live on. NULL is allowed. */
void linnet_model_free(linnet_model* model);

/* The processor to run on: the fastest kernels this machine has. NULL, with `error`, if the environment
 * variable LINNET_CPU_TARGET names others. Never freed. From the library linnet_cpu. */
const linnet_backend* linnet_backend_cpu(linnet_error* error);
/* Plain loops that define the truth; slow. From the library linnet_reference. */
const linnet_backend* linnet_backend_reference(void);

/* ---- chats -----------------------------------------------------------------------------------------------
 */

typedef struct linnet_chat_options {
  int threads;        /* 0: 1 */
  int64_t chunk;      /* tokens of a prompt processed at once; 0: 256 */
  int full_attention; /* softmax layers; 0: a window, the conversation has no length limit */
  int64_t window;     /* tokens; 0: 1024 */
  int64_t sinks;      /* first tokens kept besides; -1: 4 */
  int64_t context;    /* tokens, with full_attention; 0: 4096 */
  int cache_bits;     /* of keys and values: 32, 16 or 8; 0: 16 */
  const char* system; /* NULL: the template's own */
  float temperature;  /* negative: the model file's; likewise below */
  int top_k;
  float top_p;
  float min_p;
  float repetition_penalty;
  uint64_t seed;
  int64_t max_tokens;      /* of an answer; -1: until the model ends it */
  int raw;                 /* no template */
  size_t checkpoint_bytes; /* most memory of snapshots and history for undo and regenerate */
  int state_bits;          /* of recurrent layers' states: 32 or 16; 0: 32 */
  size_t memory_limit;     /* most memory that may be planned, weights not counted; 0: 3/4 of the machine's */
} linnet_chat_options;

/* Fills in the defaults. NULL: does nothing. */
void linnet_chat_options_init(linnet_chat_options* options);

typedef struct linnet_memory {
  size_t weights_bytes; /* mapped, shared between chats */
  size_t state_bytes;   /* fixed, whatever the length of the conversation */
  size_t work_bytes;
  size_t backend_bytes;
  size_t history_bytes; /* of checkpoint_bytes: what left the window of softmax layers */
} linnet_memory;

/* What a chat will take, before it is created. */
linnet_status linnet_chat_memory(const linnet_model* model, const linnet_backend* backend,
                                 const linnet_chat_options* options, linnet_memory* memory,
                                 linnet_error* error);
/* `options` NULL: the defaults. */
linnet_chat* linnet_chat_create(const linnet_model* model, const linnet_backend* backend,
                                const linnet_chat_options* options, linnet_error* error);
/* NULL is allowed. */
void linnet_chat_free(linnet_chat* chat);

/* Receives the answer piece by piece: whole characters, `bytes` of them, ending in a zero byte besides.
 * Return 0 to stop; what was said until then stays in the conversation. */
typedef int (*linnet_on_text)(void* context, const char* text, size_t bytes);

typedef struct linnet_turn {
  int64_t reused_tokens; /* of the prompt, in the state already */
  int64_t rerun_tokens;  /* run before and run again */
  int64_t new_tokens;
  int64_t answer_tokens;
  double first_token_seconds;
  double prefill_tokens_per_second;
  double decode_tokens_per_second;
  int complete; /* 1: the model ended its answer; 0: stopped, or no room for more */
} linnet_turn;

/* `on_text` and `turn` may be NULL. */
linnet_status linnet_chat_send(linnet_chat* chat, const char* text, linnet_on_text on_text, void* context,
                               linnet_turn* turn, linnet_error* error);
/* Answers the last message anew. */
linnet_status linnet_chat_regenerate(linnet_chat* chat, linnet_on_text on_text, void* context,
                                     linnet_turn* turn, linnet_error* error);
/* The last answer; valid until the next call with this chat. "" if there is none, or if `chat` is NULL. */
const char* linnet_chat_answer(const linnet_chat* chat);
/* Takes back the last message and its answer. */
linnet_status linnet_chat_undo(linnet_chat* chat, linnet_error* error);
/* Forgets all but the system message. */
linnet_status linnet_chat_reset(linnet_chat* chat, linnet_error* error);
/* The conversation with its state. A file that is there is replaced, whole or not at all; a pipe or a
 * character device is written to. */
linnet_status linnet_chat_save(const linnet_chat* chat, const char* path, linnet_error* error);
linnet_status linnet_chat_load(linnet_chat* chat, const char* path, linnet_error* error);

#ifdef __cplusplus
}
#endif

#endif
