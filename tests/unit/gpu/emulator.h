// Runs CUDA C kernels on the CPU, one thread at a time: every CUDA thread of a block is a fiber, and a barrier
// or a warp exchange passes control on. Slow, exact, and only what the kernels here use. Like on a GPU, a
// barrier that some thread never reaches hangs; here it is found and ends the process instead.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <ucontext.h>
#include <vector>

struct uint3 {
    unsigned x, y, z;
};
struct uint4 {
    unsigned x, y, z, w;
};

namespace emulator {
struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    bool done;
};
struct Barrier {
    unsigned arrived = 0, generation = 0;
};

ucontext_t scheduler;
std::vector<Fiber> fibers;
std::function<void()> body;
unsigned current, alive;
bool progress;
Barrier block_barrier, warp_barriers[32];
unsigned long long exchange[32][32];

inline void yield() { swapcontext(&fibers[current].context, &scheduler); }

inline void wait(Barrier &barrier, unsigned parties)
{
    unsigned mine = barrier.generation;
    progress = true;
    if (++barrier.arrived == parties) {
        barrier.arrived = 0;
        ++barrier.generation;
        return;
    }
    while (barrier.generation == mine)
        yield();
    progress = true;
}

inline void entry()
{
    body();
    fibers[current].done = true;
    progress = true;
    --alive;
    yield();
}
} // namespace emulator

#define __global__
#define __launch_bounds__(threads)
#define __device__
#define __shared__ static

uint3 threadIdx, blockIdx, blockDim, gridDim;

inline void __syncthreads() { emulator::wait(emulator::block_barrier, blockDim.x); }

inline void warp_barrier() { emulator::wait(emulator::warp_barriers[threadIdx.x / 32], 32); }

// `from`: the lane whose value this one takes, itself where there is none.
template <class T> T shuffle(T value, int from)
{
    unsigned long long *lanes = emulator::exchange[threadIdx.x / 32];
    unsigned lane = threadIdx.x % 32;
    lanes[lane] = 0;
    std::memcpy(&lanes[lane], &value, sizeof value);
    warp_barrier();
    T result;
    std::memcpy(&result, &lanes[from < 0 || from > 31 ? lane : from], sizeof value);
    warp_barrier();
    return result;
}

template <class T> T __shfl_up_sync(unsigned, T x, int d) { return shuffle(x, (int)(threadIdx.x % 32) - d); }
template <class T> T __shfl_xor_sync(unsigned, T x, int d) { return shuffle(x, (int)(threadIdx.x % 32) ^ d); }
template <class T> T __shfl_sync(unsigned, T x, int from) { return shuffle(x, from); }

inline unsigned __ballot_sync(unsigned, bool vote)
{
    unsigned result = 0;
    for (int lane = 0; lane < 32; ++lane)
        result |= (unsigned)(shuffle((int)vote, lane) != 0) << lane;
    return result;
}

template <class T> T atomicAdd(T *at, T amount)
{
    T before = *at;
    *at += amount;
    return before;
}

inline int __ffs(unsigned x) { return __builtin_ffs((int)x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long)a * b >> 32; }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned __int128)a * b >> 64;
}

inline float __int_as_float(unsigned bits)
{
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

inline unsigned __float_as_int(float x)
{
    unsigned bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

inline void launch(uint3 grid, unsigned threads, std::function<void()> kernel)
{
    using namespace emulator;
    body = kernel;
    gridDim = grid;
    blockDim = {threads, 1, 1};
    if (fibers.size() < threads)
        fibers.resize(threads);
    for (unsigned block = 0; block < grid.x * grid.y * grid.z; ++block) {
        blockIdx = {block % grid.x, block / grid.x % grid.y, block / grid.x / grid.y};
        for (unsigned t = 0; t < threads; ++t) {
            fibers[t].stack.resize(32768);
            fibers[t].done = false;
            getcontext(&fibers[t].context);
            fibers[t].context.uc_stack.ss_sp = fibers[t].stack.data();
            fibers[t].context.uc_stack.ss_size = fibers[t].stack.size();
            fibers[t].context.uc_link = nullptr;
            makecontext(&fibers[t].context, entry, 0);
        }
        for (alive = threads; alive;) {
            progress = false;
            for (current = 0; current < threads; ++current)
                if (!fibers[current].done) {
                    threadIdx = {current, 0, 0};
                    swapcontext(&scheduler, &fibers[current].context);
                }
            if (!progress) {
                std::fprintf(stderr, "a barrier that not every thread reaches\n");
                std::abort();
            }
        }
    }
}
