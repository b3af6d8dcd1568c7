/* A stand-in for libnvidia-ml.so.1: the calls that orchestrator/clients/gpu.py makes through the real binding,
 * answered from the ledger of the stand-in engines.
 *
 *   STANDIN_LEDGER           the ledger's folder; without a ledger.json in it there is no GPU
 *   STANDIN_NVML_ERROR       an NVML return code with which nvmlInit fails (9: driver not loaded)
 *   STANDIN_NVML_CAPABILITY  compute capability, 8.9 by default
 *
 * Declares what it uses of the C library, so that a compiler without its headers (tcc alone) will do. */

typedef unsigned long size_t;
struct timeval { long s, us; };
extern char *getenv(const char *), *strstr(const char *, const char *), *strchr(const char *, int);
extern char *strncpy(char *, const char *, size_t);
extern size_t strlen(const char *);
extern int open(const char *, int, ...), close(int), snprintf(char *, size_t, const char *, ...);
extern int strncmp(const char *, const char *, size_t), atoi(const char *), gettimeofday(struct timeval *, void *);
extern long read(int, void *, size_t);
extern unsigned long long strtoull(const char *, char **, int);
extern double strtod(const char *, char **);

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, TOO_SMALL = 7, MOST = 16 };
enum { EXPIRY_S = 3 }; /* as in orchestrator/standin/ledger.py */

typedef struct { char index[16], uuid[96], name[96]; unsigned long long total, used; unsigned processes; } Gpu;
typedef struct { unsigned long long total, free, used; } Memory;

static Gpu gpus[MOST];
static unsigned count;
static int ready;
static char text[1 << 18];

/* The value behind `"key": ` between `from` and `end`, or nothing. */
static char *value(char *from, char *end, const char *key) {
  char quoted[32];
  char *at;
  snprintf(quoted, sizeof quoted, "\"%s\":", key);
  at = strstr(from, quoted);
  if (!at || at >= end) return 0;
  for (at += strlen(quoted); *at == ' ';) at++;
  return at;
}

static void word(char *from, char *to, size_t size) {
  char *end;
  to[0] = 0;
  if (!from || *from != '"' || !(end = strchr(from + 1, '"'))) return;
  if ((size_t)(end - from) <= size) { strncpy(to, from + 1, end - from - 1); to[end - from - 1] = 0; }
}

static int read_ledger(void) {
  char path[4096];
  char *folder = getenv("STANDIN_LEDGER");
  long got, size = 0;
  int file;
  text[0] = 0;
  if (!folder) return 0;
  snprintf(path, sizeof path, "%s/ledger.json", folder);
  if ((file = open(path, 0)) < 0) return 0;
  while ((got = read(file, text + size, sizeof text - 1 - size)) > 0) size += got;
  close(file);
  text[size] = 0;
  return 1;
}

static void count_gpus(char *from, char *end) {
  char *at, *start;
  for (count = 0; count < MOST && (at = strstr(from, "\"uuid\":")) && at < end; from = strchr(at, '}')) {
    Gpu *gpu = &gpus[count++];
    for (start = at; *start != '{'; start--) {}
    while (*start != '"') start--;
    for (start--; *start != '"'; start--) {}
    word(start, gpu->index, sizeof gpu->index);
    word(value(at, end, "uuid"), gpu->uuid, sizeof gpu->uuid);
    word(value(at, end, "name"), gpu->name, sizeof gpu->name);
    gpu->total = strtoull(value(at, end, "total"), 0, 10);
    gpu->used = gpu->processes = 0;
  }
}

static void add_allocations(char *from) {
  struct timeval clock;
  double now;
  char index[16];
  char *at, *end, *until;
  unsigned i;
  gettimeofday(&clock, 0);
  now = clock.s + clock.us / 1e6;
  for (; (at = strchr(from, '{')) && (end = strchr(at, '}')); from = end) {
    word(value(at, end, "gpu"), index, sizeof index);
    until = value(at, end, "until");
    if (now - strtod(value(at, end, "heartbeat"), 0) > EXPIRY_S || (until && strtod(until, 0) <= now)) continue;
    for (i = 0; i < count; i++) {
      if (strncmp(gpus[i].index, index, sizeof index)) continue;
      gpus[i].used += strtoull(value(at, end, "bytes"), 0, 10);
      gpus[i].processes++;
    }
  }
}

static void look(void) {
  char *allocations;
  count = 0;
  if (!read_ledger()) return;
  allocations = strstr(text, "\"allocations\":");
  if (!allocations) return;
  count_gpus(text, allocations);
  add_allocations(allocations);
}

static int copy(const char *from, char *to, unsigned size) {
  if (strlen(from) >= size) return TOO_SMALL;
  strncpy(to, from, size);
  return OK;
}

int nvmlInitWithFlags(unsigned flags) {
  char *error = getenv("STANDIN_NVML_ERROR");
  (void)flags;
  if (error && *error) return atoi(error);
  look();
  ready = 1;
  return OK;
}

int nvmlShutdown(void) {
  if (!ready) return UNINITIALIZED;
  ready = 0;
  return OK;
}

const char *nvmlErrorString(int code) {
  return code == 9 ? "Driver Not Loaded" : code == UNINITIALIZED ? "Uninitialized" : "Unknown Error";
}

int nvmlSystemGetDriverVersion(char *version, unsigned size) { return copy("580.95.05", version, size); }

int nvmlDeviceGetCount_v2(unsigned *number) {
  if (!ready) return UNINITIALIZED;
  *number = count;
  return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Gpu **gpu) {
  if (!ready) return UNINITIALIZED;
  if (index >= count) return INVALID;
  *gpu = &gpus[index];
  return OK;
}

int nvmlDeviceGetUUID(Gpu *gpu, char *uuid, unsigned size) { return copy(gpu->uuid, uuid, size); }
int nvmlDeviceGetName(Gpu *gpu, char *name, unsigned size) { return copy(gpu->name, name, size); }

int nvmlDeviceGetMemoryInfo(Gpu *gpu, Memory *memory) {
  look();
  memory->total = gpu->total;
  memory->used = gpu->used < gpu->total ? gpu->used : gpu->total;
  memory->free = memory->total - memory->used;
  return OK;
}

int nvmlDeviceGetCudaComputeCapability(Gpu *gpu, int *major, int *minor) {
  char *given = getenv("STANDIN_NVML_CAPABILITY"), *point;
  (void)gpu;
  if (!given || !*given) given = "8.9";
  *major = atoi(given);
  point = strchr(given, '.');
  *minor = point ? atoi(point + 1) : 0;
  return OK;
}

/* struct nvmlProcessInfo_t of version 3: pid, memory, two instance ids. */
typedef struct { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; } Process;

int nvmlDeviceGetComputeRunningProcesses_v3(Gpu *gpu, unsigned *number, Process *processes) {
  unsigned i, room = *number;
  *number = gpu->processes;
  if (gpu->processes > room) return TOO_SMALL;
  for (i = 0; i < gpu->processes; i++) {
    processes[i].pid = i + 1;
    processes[i].memory = ~0ULL; /* not available: the ledger knows owners, not processes */
    processes[i].gpu_instance = processes[i].compute_instance = ~0U;
  }
  return OK;
}
