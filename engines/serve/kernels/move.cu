// Moving what is on the device already.

// Copies the first cells of one slot to another in every cache at once; grid (any, heads, caches).
// caches: addresses; source, target: of the slots, in bytes from there; pitch: bytes of one head of a slot;
// count: 16-byte words per head to copy.
extern "C" __global__ void copy_slot(char *const *caches, i64 source, i64 target, i64 pitch, int count)
{
    char *head = caches[blockIdx.z] + blockIdx.y * pitch;
    const uint4 *from = (const uint4 *)(head + source);
    uint4 *to = (uint4 *)(head + target);
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
        to[i] = from[i];
}

// The ids of a decode step [rows]: a given one, or for -1 - s the token last sampled for slot s.
extern "C" __global__ void feed(i64 *ids, const i64 *given, const int *latest, int rows)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < rows)
        ids[i] = given[i] >= 0 ? given[i] : latest[-1 - given[i]];
}
