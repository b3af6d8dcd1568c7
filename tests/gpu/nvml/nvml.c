/* A stand-in for libnvidia-ml.so.1: the calls that orchestrator/clients/gpu.py makes through the real binding,
 * answered from the ledger of the stand-in engines.
 *
 *   STANDIN_LEDGER           the ledger's folder; without a ledger.json in it there is no GPU
 *   STANDIN_NVML_ERROR       an NVML return code with which nvmlInit fails (9: driver not loaded)
 *   STANDIN_NVML_CAPABILITY  compute capability, 8.9 by default
 *   STANDIN_NVML             how this driver and its GPUs differ, as words `key=value`; `_` in a value is a space
 *
 * Keys, where 1 is a GPU's number and 1.0 its first MIG instance; sizes in bytes:
 *
 *   cuda=12080 driver=…            what the driver says of itself
 *   error.CALL=3                   every nvmlCALL fails with this code (13: the library has no such function)
 *   1.error.CALL=15 1.0.error.…    for this GPU or instance alone
 *   1.display=1 1.screen=1         a display is active; a screen is plugged in
 *   1.virtual=2                    nvmlGpuVirtualizationMode_t: 2 is a vGPU inside a VM
 *   1.reserved=536870912           what driver and ECC keep (1.0.reserved too)
 *   1.procs=812:/usr/bin/ollama:1073741824,900:Xorg:-    pid, name, bytes or - (1.0.procs too); 1.drawn=… for graphics
 *   1.mig=1 1.migs=7               MIG is on; how many instances it may have
 *   1.0.uuid=… 1.0.total=… 1.0.used=… 1.0.name=… 1.0.gi=1 1.0.ci=0 1.0.slices=3 1.0.compute=3 1.0.mb=40192
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

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, MISMATCH = 25 };
enum { MOST = 16, INSTANCES = 8, PROCESSES = 64 };
enum { EXPIRY_S = 3 }; /* as in orchestrator/standin/ledger.py */

typedef unsigned long long Bytes;
/* A GPU, or with `parent` one of its MIG instances; `key` is what STANDIN_NVML calls it. */
typedef struct Gpu {
  char index[16], uuid[96], name[96], key[48];
  Bytes total, used;
  unsigned processes;
  struct Gpu *parent;
} Gpu;
typedef struct { Bytes total, free, used; } Memory;
typedef struct { unsigned version; Bytes total, reserved, free, used; } MemoryV2;
typedef struct { unsigned sms, copies, decoders, encoders, jpegs, ofas, slices, compute; Bytes mb; } Attributes;

static Gpu gpus[MOST], migs[MOST][INSTANCES];
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

/* Copy what STANDIN_NVML says of `owner.key`, or of `key` where there is no owner; 0 where it says nothing. */
static int said(const char *owner, const char *key, char *to, size_t size) {
  char *all = getenv("STANDIN_NVML"), *at, wanted[160];
  size_t i = 0, length;
  snprintf(wanted, sizeof wanted, "%s%s%s=", owner, *owner ? "." : "", key);
  length = strlen(wanted);
  for (at = all; at && (at = strstr(at, wanted)); at++) {
    if (at != all && at[-1] != ' ' && at[-1] != '\n') continue;
    for (at += length; at[i] && at[i] != ' ' && at[i] != '\n' && i + 1 < size; i++) to[i] = at[i] == '_' ? ' ' : at[i];
    to[i] = 0;
    return 1;
  }
  to[0] = 0;
  return 0;
}

static Bytes number(const char *owner, const char *key, Bytes otherwise) {
  char found[64];
  return said(owner, key, found, sizeof found) ? strtoull(found, 0, 10) : otherwise;
}

/* The code with which a call fails, by the GPU or by the whole driver. */
static int failure(Gpu *gpu, const char *call) {
  char key[96];
  int code = 0;
  snprintf(key, sizeof key, "error.%s", call);
  if (gpu) code = (int)number(gpu->key, key, 0);
  return code ? code : (int)number("", key, 0);
}

#define FAIL(gpu, call) do { int code = failure(gpu, call); if (code) return code; } while (0)

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
    gpu->parent = 0;
    snprintf(gpu->key, 12, "%u", count - 1);
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
  switch (code) {
    case UNINITIALIZED: return "Uninitialized";
    case UNSUPPORTED: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case 9: return "Driver Not Loaded";
    case 13: return "Function Not Found";
    case 15: return "GPU is lost";
    case 16: return "GPU requires reset";
    case 18: return "RM has detected an NVML/RM version mismatch.";
    default: return "Unknown Error";
  }
}

int nvmlSystemGetDriverVersion(char *version, unsigned size) {
  char given[64];
  FAIL(0, "SystemGetDriverVersion");
  return copy(said("", "driver", given, sizeof given) ? given : "580.95.05", version, size);
}

static int cuda(const char *call, int *version) {
  FAIL(0, call);
  *version = (int)number("", "cuda", 13000);
  return OK;
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) { return cuda("SystemGetCudaDriverVersion_v2", version); }
int nvmlSystemGetCudaDriverVersion(int *version) { return cuda("SystemGetCudaDriverVersion", version); }

int nvmlDeviceGetCount_v2(unsigned *found) {
  if (!ready) return UNINITIALIZED;
  FAIL(0, "DeviceGetCount");
  *found = count;
  return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Gpu **gpu) {
  if (!ready) return UNINITIALIZED;
  if (index >= count) return INVALID;
  FAIL(&gpus[index], "DeviceGetHandleByIndex");
  *gpu = &gpus[index];
  return OK;
}

int nvmlDeviceGetUUID(Gpu *gpu, char *uuid, unsigned size) {
  FAIL(gpu, "DeviceGetUUID");
  return copy(gpu->uuid, uuid, size);
}

int nvmlDeviceGetName(Gpu *gpu, char *name, unsigned size) {
  FAIL(gpu, "DeviceGetName");
  return copy(gpu->name, name, size);
}

static Bytes reserved(Gpu *gpu) { return number(gpu->key, "reserved", 0); }

/* What is used without the reserve, which the first version of the call counts as used. */
static Bytes used(Gpu *gpu) {
  Bytes room;
  if (!gpu->parent) look();
  room = gpu->total - reserved(gpu);
  return gpu->used < room ? gpu->used : room;
}

int nvmlDeviceGetMemoryInfo(Gpu *gpu, Memory *memory) {
  FAIL(gpu, "DeviceGetMemoryInfo");
  memory->total = gpu->total;
  memory->used = used(gpu) + reserved(gpu);
  memory->free = memory->total - memory->used;
  return OK;
}

int nvmlDeviceGetMemoryInfo_v2(Gpu *gpu, MemoryV2 *memory) {
  if (memory->version != (sizeof *memory | 2U << 24)) return MISMATCH;
  FAIL(gpu, "DeviceGetMemoryInfo_v2");
  FAIL(gpu, "DeviceGetMemoryInfo");
  memory->total = gpu->total;
  memory->reserved = reserved(gpu);
  memory->used = used(gpu);
  memory->free = memory->total - memory->used - memory->reserved;
  return OK;
}

static int flag(Gpu *gpu, const char *call, const char *key, unsigned *value) {
  FAIL(gpu, call);
  *value = (unsigned)number(gpu->key, key, 0);
  return OK;
}

int nvmlDeviceGetDisplayActive(Gpu *gpu, unsigned *on) { return flag(gpu, "DeviceGetDisplayActive", "display", on); }
int nvmlDeviceGetDisplayMode(Gpu *gpu, unsigned *on) { return flag(gpu, "DeviceGetDisplayMode", "screen", on); }
int nvmlDeviceGetVirtualizationMode(Gpu *gpu, unsigned *mode) {
  return flag(gpu, "DeviceGetVirtualizationMode", "virtual", mode);
}

int nvmlDeviceGetMigMode(Gpu *gpu, unsigned *now, unsigned *pending) {
  char given[8];
  FAIL(gpu, "DeviceGetMigMode");
  if (!said(gpu->key, "mig", given, sizeof given)) return UNSUPPORTED; /* as a GPU without MIG */
  *now = *pending = atoi(given);
  return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(Gpu *gpu, unsigned *most) {
  FAIL(gpu, "DeviceGetMaxMigDeviceCount");
  *most = (unsigned)number(gpu->key, "migs", 7);
  return OK;
}

int nvmlDeviceGetMigDeviceHandleByIndex(Gpu *gpu, unsigned at, Gpu **instance) {
  Gpu *mine;
  FAIL(gpu, "DeviceGetMigDeviceHandleByIndex");
  if (at >= INSTANCES) return INVALID;
  mine = &migs[gpu - gpus][at];
  snprintf(mine->key, sizeof mine->key, "%.12s.%u", gpu->key, at);
  if (!said(mine->key, "uuid", mine->uuid, sizeof mine->uuid)) return NOT_FOUND;
  FAIL(mine, "DeviceGetMigDeviceHandleByIndex");
  if (!said(mine->key, "name", mine->name, sizeof mine->name)) copy(gpu->name, mine->name, sizeof mine->name);
  mine->total = number(mine->key, "total", 0);
  mine->used = number(mine->key, "used", 0);
  mine->processes = 0;
  mine->parent = gpu;
  *instance = mine;
  return OK;
}

static int instance(Gpu *gpu, const char *call, const char *key, unsigned *value) {
  if (!gpu->parent) return INVALID;
  return flag(gpu, call, key, value);
}

int nvmlDeviceGetGpuInstanceId(Gpu *gpu, unsigned *id) { return instance(gpu, "DeviceGetGpuInstanceId", "gi", id); }
int nvmlDeviceGetComputeInstanceId(Gpu *gpu, unsigned *id) {
  return instance(gpu, "DeviceGetComputeInstanceId", "ci", id);
}

int nvmlDeviceGetAttributes_v2(Gpu *gpu, Attributes *found) {
  FAIL(gpu, "DeviceGetAttributes");
  if (!gpu->parent) return UNSUPPORTED;
  found->slices = (unsigned)number(gpu->key, "slices", 1);
  found->compute = (unsigned)number(gpu->key, "compute", found->slices);
  found->mb = number(gpu->key, "mb", gpu->total >> 20);
  return OK;
}

int nvmlDeviceGetCudaComputeCapability(Gpu *gpu, int *major, int *minor) {
  char *given = getenv("STANDIN_NVML_CAPABILITY"), *point;
  FAIL(gpu, "DeviceGetCudaComputeCapability");
  if (gpu->parent) return UNSUPPORTED;
  if (!given || !*given) given = "8.9";
  *major = atoi(given);
  point = strchr(given, '.');
  *minor = point ? atoi(point + 1) : 0;
  return OK;
}

/* struct nvmlProcessInfo_t of version 3: pid, memory, two instance ids. */
typedef struct { unsigned pid; Bytes memory; unsigned gpu_instance, compute_instance; } Process;

/* Read `812:/usr/bin/ollama:1024,900:Xorg:-`; returns how many. `name` of process `wanted` goes to `to`. */
static unsigned listed(Gpu *gpu, const char *key, Process *processes, unsigned wanted, char *to, unsigned size) {
  char all[1024], *at = all, *colon, *next;
  unsigned found = 0;
  if (!said(gpu->key, key, all, sizeof all)) return 0;
  for (; at && *at && found < PROCESSES; at = next) {
    Process *one = &processes[found++];
    if ((next = strchr(at, ','))) *next++ = 0;
    one->pid = (unsigned)strtoull(at, &at, 10);
    colon = *at ? strchr(at + 1, ':') : 0;
    one->memory = colon && colon[1] != '-' ? strtoull(colon + 1, 0, 10) : ~0ULL;
    one->gpu_instance = gpu->parent ? (unsigned)number(gpu->key, "gi", 0) : ~0U;
    one->compute_instance = gpu->parent ? (unsigned)number(gpu->key, "ci", 0) : ~0U;
    if (!to || one->pid != wanted || !*at) continue;
    if (colon) *colon = 0;
    copy(at + 1, to, size);
  }
  return found;
}

static int running(Gpu *gpu, const char *call, const char *key, unsigned *number_of, Process *processes) {
  Process all[PROCESSES * 2];
  unsigned i, at, found, room = *number_of;
  FAIL(gpu, call);
  found = listed(gpu, key, all, 0, 0, 0);
  if (!gpu->parent && key[0] == 'p') {
    for (i = 0; i < gpu->processes && found < PROCESSES; i++, found++) {
      all[found].pid = i + 1;
      all[found].memory = ~0ULL; /* not available: the ledger knows owners, not processes */
      all[found].gpu_instance = all[found].compute_instance = ~0U;
    }
    for (at = 0; at < INSTANCES; at++) /* the whole GPU lists those of its instances */
      if (migs[gpu - gpus][at].parent) found += listed(&migs[gpu - gpus][at], key, all + found, 0, 0, 0);
  }
  *number_of = found;
  if (found > room) return TOO_SMALL;
  for (i = 0; i < found; i++) processes[i] = all[i];
  return OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Gpu *gpu, unsigned *found, Process *processes) {
  FAIL(gpu, "DeviceGetComputeRunningProcesses_v3");
  return running(gpu, "DeviceGetComputeRunningProcesses", "procs", found, processes);
}

int nvmlDeviceGetComputeRunningProcesses_v2(Gpu *gpu, unsigned *found, Process *processes) {
  return running(gpu, "DeviceGetComputeRunningProcesses", "procs", found, processes);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(Gpu *gpu, unsigned *found, Process *processes) {
  return running(gpu, "DeviceGetGraphicsRunningProcesses", "drawn", found, processes);
}

int nvmlSystemGetProcessName(unsigned pid, char *name, unsigned size) {
  Process all[PROCESSES];
  unsigned i, at;
  FAIL(0, "SystemGetProcessName");
  name[0] = 0;
  for (i = 0; i < count && !name[0]; i++) {
    listed(&gpus[i], "procs", all, pid, name, size);
    if (!name[0]) listed(&gpus[i], "drawn", all, pid, name, size);
    for (at = 0; at < INSTANCES && !name[0]; at++)
      if (migs[i][at].parent) listed(&migs[i][at], "procs", all, pid, name, size);
  }
  return name[0] ? OK : NOT_FOUND;
}
