/* Stands in for libnvidia-ml.so.1 in tests: the calls that mmdoctor makes, answered from the environment.
   STUB_INIT: return code of nvmlInit. STUB_DEVICES: how many devices. STUB_MIG: instances on device 0 (-1: MIG off). */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int R;
struct memory { unsigned long long total, free, used; };

static int number(const char *name, int otherwise) {
  const char *text = getenv(name);
  return text ? atoi(text) : otherwise;
}

R nvmlInitWithFlags(unsigned int flags) {
  (void)flags;
  if (number("STUB_HANG", 0)) sleep(60);
  return number("STUB_INIT", 0);
}
R nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(R code) { return code == 18 ? "Driver/library version mismatch" : "Stub Error"; }
R nvmlSystemGetDriverVersion(char *text, unsigned int size) { strncpy(text, "550.144.03", size); return 0; }
R nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12040; return 0; }
R nvmlDeviceGetCount_v2(unsigned int *count) { *count = number("STUB_DEVICES", 1); return 0; }
R nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) { *handle = (void *)(long)(index + 1); return 0; }
R nvmlDeviceGetName(void *device, char *text, unsigned int size) {
  strncpy(text, (long)device >= 100 ? "NVIDIA H100 80GB HBM3 MIG 1g.10gb" : "NVIDIA H100 80GB HBM3", size);
  return 0;
}
R nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
  *major = 9;
  *minor = 0;
  return (long)device >= 100 ? 2 : 0; /* an instance has none of its own */
}
R nvmlDeviceGetMemoryInfo(void *device, struct memory *info) {
  if (number("STUB_UNIFIED", 0)) return 3;
  info->total = (long)device >= 100 ? 10ULL << 30 : 80ULL << 30;
  info->free = info->used = 0;
  return 0;
}
R nvmlDeviceGetMigMode(void *device, unsigned int *current, unsigned int *pending) {
  int parts = number("STUB_MIG", -2);
  if (parts == -2) return 3; /* not supported */
  *current = *pending = (long)device == 1 && parts >= 0;
  return 0;
}
R nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned int *count) { (void)device; *count = 7; return 0; }
R nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned int index, void **part) {
  (void)device;
  if ((int)index >= number("STUB_MIG", 0)) return 6; /* not found */
  *part = (void *)(long)(100 + index);
  return 0;
}
