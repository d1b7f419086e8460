// What every kernel needs. No header is included: NVRTC brings the intrinsics, and so the same text compiles
// with a C++ compiler that is given the handful of them that is used here.

typedef unsigned long long u64;
typedef long long i64;

#define EVERY_LANE 0xffffffffu


// Philox4x32-10 (Salmon et al. 2011), as engines/serve/philox.py: the counter is (position, 0, 0).
__device__ inline u64 philox_bits(u64 seed, u64 position)
{
    unsigned key0 = (unsigned)seed, key1 = (unsigned)(seed >> 32);
    unsigned c0 = (unsigned)position, c1 = (unsigned)(position >> 32), c2 = 0, c3 = 0;
    for (int round = 0; round < 10; ++round) {
        unsigned high0 = __umulhi(c0, 0xD2511F53u), low0 = c0 * 0xD2511F53u;
        unsigned high1 = __umulhi(c2, 0xCD9E8D57u), low1 = c2 * 0xCD9E8D57u;
        c0 = high1 ^ c1 ^ key0;
        c1 = low1;
        c2 = high0 ^ c3 ^ key1;
        c3 = low0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return (u64)c0 << 32 | c1;
}

// Sum over the lanes up to and including this one.
__device__ inline u64 warp_scan(u64 x)
{
    for (int step = 1; step < 32; step *= 2) {
        u64 below = __shfl_up_sync(EVERY_LANE, x, step);
        if ((int)(threadIdx.x % 32) >= step)
            x += below;
    }
    return x;
}

// Sum over the threads below this one; `total` becomes the sum over all. Every thread must call it.
__device__ inline u64 block_scan(u64 x, u64 *total)
{
    __shared__ u64 sums[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    u64 inclusive = warp_scan(x);
    if (lane == 31)
        sums[warp] = inclusive;
    __syncthreads();
    if (warp == 0) {
        u64 scanned = warp_scan(lane < warps ? sums[lane] : 0);
        sums[lane] = scanned;
    }
    __syncthreads();
    u64 before = warp ? sums[warp - 1] : 0;
    *total = sums[warps - 1];
    __syncthreads(); // the next call writes `sums` again
    return before + inclusive - x;
}

// Largest value of any thread, known to all of them. Every thread must call it.
__device__ inline u64 block_max(u64 x)
{
    __shared__ u64 largest[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int step = 16; step; step /= 2) {
        u64 other = __shfl_xor_sync(EVERY_LANE, x, step);
        x = other > x ? other : x;
    }
    if (lane == 0)
        largest[warp] = x;
    __syncthreads();
    for (int i = 0; i < warps; ++i)
        x = largest[i] > x ? largest[i] : x;
    __syncthreads();
    return x;
}
