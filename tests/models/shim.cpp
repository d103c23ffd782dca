// What a kernel's body finds around it on a GPU, for the CPU: a thread for every thread of a threadgroup, and what
// they share and wait for. BODY, T, D and N are defined by the test.
#include <pthread.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

typedef unsigned int uint;

struct bfloat {  // rounds to the nearest, ties to even
    uint16_t bits;
    bfloat(float number = 0) {
        uint32_t wide;
        std::memcpy(&wide, &number, 4);
        bits = (wide + 0x7fff + (wide >> 16 & 1)) >> 16;
    }
    operator float() const {
        const uint32_t wide = uint32_t(bits) << 16;
        float number;
        std::memcpy(&number, &wide, 4);
        return number;
    }
};
inline bfloat operator+(bfloat a, bfloat b) { return bfloat(float(a) + float(b)); }
inline bfloat operator*(bfloat a, bfloat b) { return bfloat(float(a) * float(b)); }

namespace metal::precise {
inline float rsqrt(float number) { return 1 / std::sqrt(number); }
}  // namespace metal::precise

enum mem_flags { mem_none, mem_threadgroup };
struct uint3 {
    uint x, y, z;
};
#define threadgroup static

static pthread_barrier_t everybody;
static float lanes[N];
static thread_local uint3 thread_position_in_threadgroup, threadgroup_position_in_grid;

static void threadgroup_barrier(int) { pthread_barrier_wait(&everybody); }

static float simd_sum(float number) {  // of 32 neighbours; every thread of a threadgroup comes here
    const uint lane = thread_position_in_threadgroup.x;
    lanes[lane] = number;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float total = 0;
    for (uint other = lane / 32 * 32; other < lane / 32 * 32 + 32; ++other) {
        total += lanes[other];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return total;
}

static void body(const T* x, const T* update, const T* weight, const float* eps, T* added, T* normed) {
#include BODY
}

extern "C" void run(int rows, const T* x, const T* update, const T* weight, const float* eps, T* added, T* normed) {
    pthread_barrier_init(&everybody, nullptr, N);
    for (uint row = 0; row < uint(rows); ++row) {
        std::vector<std::thread> threads;
        for (uint lane = 0; lane < N; ++lane) {
            threads.emplace_back([=] {
                thread_position_in_threadgroup = {lane, 0, 0};
                threadgroup_position_in_grid = {row, 0, 0};
                body(x, update, weight, eps, added, normed);
            });
        }
        for (auto& thread : threads) {
            thread.join();
        }
    }
    pthread_barrier_destroy(&everybody);
}
