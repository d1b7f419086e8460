// From logits to token ids: one block per row, 32 to 1024 threads (a power of two). The specification, bit
// for bit, is engines/serve/sampler.py: weights are integers, so sums do not depend on the order of adding,
// and a draw depends on the row's own logits, seed and position alone. Compile without contraction to FMA.

// As engines/serve/kernels/table.py CHOICE.
struct Choice {
    u64 seed, position;
    u64 top_p;      // in 2^-64, 0: all tokens
    u64 min_weight; // a weight, 0: all tokens
    int logits;     // row of `logits`
    int allowed;    // row of `allowed`, -1: every token is
    int seen;       // row of `seen`, -1: no token was
    int slot;       // where `latest` keeps the token, -1: nowhere
    unsigned top_k; // 0: all tokens
    float scale;    // log2(e) / temperature, 0: greedy
    float penalty;
    int measured; // whether the token's log-probability is wanted
};

// As DRAW there. The log-probability is chosen - best - log(total / 2^44), of the logits as they came.
struct Draw {
    u64 total;
    float best, chosen;
    int token; // -1: no finite best
    int unused;
};

struct Row {
    const float *logits;
    const unsigned *allowed, *seen;
    int width;
    float penalty, best, scale;
};

#define UNIT_BITS 44                      // the weight of the best token is 2^44
#define LEAST -(UNIT_BITS + 1.0f)         // exponents from here down weigh nothing
#define ONE_KEY 0x3f800000u               // bits of 1.0f
#define BINS 1024
#define NAN_KEY 0xffffffffffffffffull

__device__ inline bool bit(const unsigned *words, int i) { return words[i / 32] >> (i % 32) & 1; }

// The logit after mask and penalty.
__device__ inline float value(const Row &row, int i)
{
    if (row.allowed && !bit(row.allowed, i))
        return __int_as_float((int)0xff800000);
    float x = row.logits[i];
    if (row.seen && bit(row.seen, i))
        x = x > 0 ? x / row.penalty : x * row.penalty;
    return x;
}

// 2^(difference * scale) in units of 2^-44, rounded down. 2^f by its Taylor polynomial, |f| <= 1/2.
__device__ inline u64 weight(float difference, float scale)
{
    float t = fmaxf(difference * scale, LEAST);
    float whole = rintf(t);
    float f = t - whole;
    float p = 1.54035304e-4f;
    p = p * f + 1.33335581e-3f;
    p = p * f + 9.61812911e-3f;
    p = p * f + 5.55041087e-2f;
    p = p * f + 2.40226507e-1f;
    p = p * f + 6.93147181e-1f;
    p = p * f + 1.0f;
    return (u64)(p * __int_as_float(((int)whole + UNIT_BITS + 127) << 23));
}

__device__ inline u64 row_weight(const Row &row, int i) { return weight(value(row, i) - row.best, row.scale); }

// 29 bits in the order of the weights, one to one: a weight has 24 significant bits, a float holds it.
__device__ inline unsigned key_of(u64 weight)
{
    return weight ? __float_as_int((float)weight) - ONE_KEY + 1 : 0;
}

__device__ inline u64 weight_of(unsigned key) { return key ? (u64)__int_as_float(key - 1 + ONE_KEY) : 0; }

// 64 bits in the order of (x, then lower index); NaN is above everything.
__device__ inline u64 order(float x, int i)
{
    if (x != x)
        return NAN_KEY;
    unsigned bits = __float_as_int(x + 0.0f); // -0 becomes 0
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (u64)bits << 32 | (0xffffffffu - i);
}

__device__ inline float ordered_value(u64 key)
{
    unsigned bits = key >> 32;
    return __int_as_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}

// The largest key such that the tokens at or above it number `need` (or, by weight, weigh it); 0 if all
// together do not reach it. `rest`: what of `need` the tokens above that key leave. Keys below `least` do
// not count. Three rounds of a histogram of ten bits, from the highest down.
__device__ unsigned select(const Row &row, bool by_weight, unsigned least, u64 need, u64 *rest)
{
    __shared__ u64 histogram[BINS];
    __shared__ unsigned digit;
    __shared__ u64 remaining;
    int per = BINS / blockDim.x;
    unsigned prefix = 0;
#pragma unroll 1
    for (int round = 0; round < 3; ++round) {
        int shift = round < 2 ? 19 - 10 * round : 0, bits = round < 2 ? 10 : 9;
        for (int i = threadIdx.x; i < BINS; i += blockDim.x)
            histogram[i] = 0;
        __syncthreads();
        for (int i = threadIdx.x; i < row.width; i += blockDim.x) {
            u64 w = row_weight(row, i);
            unsigned key = key_of(w);
            if (key >= least && key >> (shift + bits) == prefix)
                atomicAdd(&histogram[key >> shift & ((1 << bits) - 1)], by_weight ? w : 1);
        }
        __syncthreads();
        int top = BINS - 1 - (int)threadIdx.x * per;
        u64 mine = 0, total;
        for (int i = 0; i < per; ++i)
            mine += histogram[top - i];
        u64 above = block_scan(mine, &total);
        if (total < need)
            return 0;
        if (above < need && need <= above + mine) {
            int i = top;
            for (; above + histogram[i] < need; --i)
                above += histogram[i];
            digit = i;
            remaining = need - above;
        }
        __syncthreads();
        prefix = prefix << bits | digit;
        need = remaining;
        __syncthreads();
    }
    *rest = need;
    return prefix;
}

// Weight of all tokens above `key`.
__device__ u64 weight_above(const Row &row, unsigned key)
{
    u64 mine = 0, total;
    for (int i = threadIdx.x; i < row.width; i += blockDim.x) {
        u64 w = row_weight(row, i);
        mine += key_of(w) > key ? w : 0;
    }
    block_scan(mine, &total);
    return total;
}

// The smallest weight that top-k, top-p and min-p keep; at least 1.
__device__ u64 smallest_kept(const Row &row, const Choice &choice)
{
    unsigned least = 1;
    u64 rest = 0;
    if (choice.top_k) {
        unsigned key = select(row, false, 1, choice.top_k, &rest);
        least = key ? key : 1;
        rest = key ? rest : 0;
    }
    if (choice.top_p) {
        u64 total = weight_above(row, rest ? least : 0) + rest * weight_of(least);
        u64 need = __umul64hi(choice.top_p, total) + (choice.top_p * total != 0);
        u64 unused;
        unsigned key = select(row, true, least, need, &unused);
        least = key > least ? key : least;
    }
    u64 floor = weight_of(least);
    return floor > choice.min_weight ? floor : choice.min_weight;
}

// The first token whose running total of kept weights passes the row's random share of them all.
__device__ int draw(const Row &row, const Choice &choice)
{
    __shared__ u64 sums[32];
    __shared__ int token;
    u64 least = smallest_kept(row, choice);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    int part = ((row.width + warps - 1) / warps + 31) / 32 * 32; // of consecutive tokens per warp
    int first = warp * part, last = first + part < row.width ? first + part : row.width;
    u64 mine = 0;
    for (int i = first + lane; i < last; i += 32) {
        u64 w = row_weight(row, i);
        mine += w >= least ? w : 0;
    }
    mine = warp_scan(mine);
    if (lane == 31)
        sums[warp] = mine;
    __syncthreads();
    u64 total = 0, before = 0;
    for (int i = 0; i < warps; ++i) {
        before += i < warp ? sums[i] : 0;
        total += sums[i];
    }
    u64 target = __umul64hi(philox_bits(choice.seed, choice.position), total);
    if (before <= target && target < before + sums[warp]) { // one warp, all its lanes
        for (int tile = first;; tile += 32) {
            int i = tile + lane;
            u64 w = i < last ? row_weight(row, i) : 0;
            u64 upto = before + warp_scan(w >= least ? w : 0);
            unsigned past = __ballot_sync(EVERY_LANE, upto > target);
            if (past) {
                if (lane == 0)
                    token = tile + __ffs(past) - 1;
                break;
            }
            before = __shfl_sync(EVERY_LANE, upto, 31);
        }
    }
    __syncthreads();
    return token;
}

// logits [*, width], allowed and seen [*, ceil(width / 32)] with the lowest bit first, choices and draws
// [gridDim.x], latest [slots].
extern "C" __global__ void __launch_bounds__(1024) sample(const float *logits, int width, const unsigned *allowed,
                                  const unsigned *seen, const Choice *choices, Draw *draws, int *latest)
{
    Choice choice = choices[blockIdx.x];
    int words = (width + 31) / 32;
    Row row;
    row.logits = logits + (i64)choice.logits * width;
    row.allowed = choice.allowed < 0 ? 0 : allowed + (i64)choice.allowed * words;
    row.seen = choice.seen < 0 ? 0 : seen + (i64)choice.seen * words;
    row.width = width;
    row.penalty = choice.penalty;
    u64 key = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        u64 other = order(value(row, i), i);
        key = other > key ? other : key;
    }
    key = block_max(key);
    row.best = ordered_value(key);
    row.scale = choice.scale;
    int token = 0xffffffffu - (unsigned)key;
    // Not NaN and not infinite: the difference of a finite number with itself is 0.
    if (key == NAN_KEY || row.best - row.best != 0)
        token = -1;
    else if (choice.scale > 0)
        token = draw(row, choice);
    Draw result = {0, 0, 0, token, 0};
    if (choice.measured && token >= 0) {
        key = 0;
        for (int i = threadIdx.x; i < width; i += blockDim.x) {
            u64 other = order(row.logits[i], i);
            key = other > key && other != NAN_KEY ? other : key;
        }
        result.best = ordered_value(block_max(key));
        result.chosen = row.logits[token];
        u64 mine = 0;
        for (int i = threadIdx.x; i < width; i += blockDim.x)
            mine += weight(row.logits[i] - result.best, 1.44269504f);
        block_scan(mine, &result.total);
    }
    if (threadIdx.x == 0) {
        draws[blockIdx.x] = result;
        if (choice.slot >= 0)
            latest[choice.slot] = token < 0 ? 0 : token;
    }
}
