// The loops over time and batch around the functions of one row that are printed before this text:
//
//   forward_row(stage, gates_x, gates_h, state, params, next)
//   backward_row(stage, gates_x, gates_h, state, params, grad_next, into_x, into_h, grad_state, sums)
//
// and the constants FIELDS, STAGES, GATES, WIDTH, OUTPUT and, for each stage, RECUR (the width of
// its product, 0 without one), SUMMED (gates_x + gates_h is all that it reads), LD (the row length of
// its matrix), BLOCKS and BLOCK (the products that it consists of), PARAMS, SIZE (of each param), CHANGES (which fields it changes)
// and LAST (whether it is the last that changes the field).
//
// Every thread carries a slice of the batch through the whole sequence, without barriers.

typedef void (*pack_t)(int, int, int, int, int, int, float, const float*, int, float*);
typedef size_t (*pack_size_t)(int, int, int, int);
typedef void (*compute_t)(int, int, int, int, int, int, const float*, int, const float*, int, float,
                          float*, int);
typedef void (*gemm_t)(const char*, const char*, const int*, const int*, const int*, const T*,
                       const T*, const int*, const T*, const int*, const T*, T*, const int*);
typedef void (*threads_t)(int);

// A product pays for its zeros unless they are this many, in a matrix of so many entries at least.
static constexpr double SPARSE = 0.15;
static constexpr size_t SMALLEST_SPARSE = 4096;

// What moves over time: the values at time t begin at base + (t & mask) * step.
struct Track {
  T* base;
  int64_t step;
  int64_t mask;
  T* at(int64_t t) const { return base + (t & mask) * step; }
};

struct Call {
  int64_t steps, batch, threads;
  const T* gates_x;             // (T, B, GATES); where SUMMED it is overwritten by the sums
  const uint8_t* keep;          // (T, B) or null
  T* y;                         // (T, B, OUTPUT) where there is a mask, else null
  Track field[FIELDS];          // (T + 1, B, WIDTH), the first state in place; or two steps of it
  Track between[STAGES][FIELDS];  // what a stage changes and a later one changes again
  Track product[STAGES];        // (T, B, RECUR), unless SUMMED
  const T* weight[STAGES];      // (RECUR, LD)
  const T* bias[STAGES];        // (RECUR) or null
  const T* params[STAGES][MOST_PARAMS];
  // Backward.
  const T* grad_y;              // (T, B, OUTPUT); with lags D steps more before it, and written to
  const T* grad_last[FIELDS];   // (B, WIDTH) or null
  T* into_x;                    // (T, B, GATES)
  T* into_h[STAGES];            // (T, B, RECUR); into_x where SUMMED
  T* grad_first[FIELDS];        // (B, WIDTH)
  double* sums[STAGES][MOST_PARAMS];  // (threads, SIZE), zeros
  // The products: packed ones of MKL where it is there, else the Fortran routine.
  pack_t pack;
  pack_size_t pack_size;
  compute_t compute;
  gemm_t gemm;
  threads_t set_threads;
};

// The entries of a matrix that are not zero, by column of B (K, N): what a product with it costs.
struct Sparse {
  std::vector<int32_t> start, index;
  std::vector<T> value;

  // False where there are too many of them for this to pay; the search stops there.
  bool fill(const T* b, int n, int k, int ld, bool transposed) {
    const size_t most = (size_t)(SPARSE * n * k);
    if ((size_t)n * k < SMALLEST_SPARSE) return false;
    size_t found = 0;
    const int rows = transposed ? n : k, columns = transposed ? k : n;
    for (int r = 0; r < rows; ++r) {
      const T* row = b + (size_t)r * ld;
      for (int j = 0; j < columns; ++j) found += row[j] != T(0);
      if (found > most) return false;
    }
    start.push_back(0);
    for (int o = 0; o < n; ++o) {
      for (int i = 0; i < k; ++i) {
        const T v = transposed ? b[(size_t)o * ld + i] : b[(size_t)i * ld + o];
        if (v != T(0)) index.push_back(i), value.push_back(v);
      }
      start.push_back((int32_t)index.size());
    }
    return true;
  }

  void run(int rows, int n, int k, const T* a, int lda, T beta, T* out, int ldc) const {
    int r = 0;
    for (; rows - r >= 4; r += LANES)
      lanes(std::min(LANES, rows - r), n, k, a + (size_t)r * lda, lda, beta, out + (size_t)r * ldc, ldc);
    for (; r < rows; ++r) {
      const T* x = a + (size_t)r * lda;
      T* y = out + (size_t)r * ldc;
      for (int o = 0; o < n; ++o) {
        // Four sums of their own, so that one entry does not wait for the other.
        T sum[4] = {};
        int32_t e = start[o];
        for (; e + 4 <= start[o + 1]; e += 4)
          for (int q = 0; q < 4; ++q) sum[q] += value[e + q] * x[index[e + q]];
        for (; e < start[o + 1]; ++e) sum[0] += value[e] * x[index[e]];
        y[o] = (sum[0] + sum[1]) + (sum[2] + sum[3]) + (beta == T(0) ? T(0) : beta * y[o]);
      }
    }
  }

  // Several rows side by side, so that each entry is read once for all of them. The sums are vectors
  // by name: an array of numbers would go through memory with each entry.
  static constexpr int LANES = 16;
  void lanes(int count, int n, int k, const T* a, int lda, T beta, T* out, int ldc) const {
    static thread_local std::vector<Lanes> side;
    side.resize((size_t)k);
    T* beside = (T*)side.data();
    for (int i = 0; i < k; ++i)
      for (int r = 0; r < LANES; ++r) beside[(size_t)i * LANES + r] = r < count ? a[(size_t)r * lda + i] : T(0);
    for (int o = 0; o < n; ++o) {
      Lanes one = {}, two = {};
      int32_t e = start[o];
      for (; e + 2 <= start[o + 1]; e += 2) {
        one.add(value[e], side[index[e]]);
        two.add(value[e + 1], side[index[e + 1]]);
      }
      if (e < start[o + 1]) one.add(value[e], side[index[e]]);
      one.add(T(1), two);
      const T* sum = (const T*)&one;
      for (int r = 0; r < count; ++r) {
        T* y = out + (size_t)r * ldc + o;
        *y = sum[r] + (beta == T(0) ? T(0) : beta * *y);
      }
    }
  }

  // One number of each of the rows.
  struct Lanes {
    static constexpr int WIDTH = 32 / sizeof(T);
    typedef T Vector __attribute__((vector_size(32)));
    Vector part[LANES / WIDTH];
    void add(T factor, const Lanes& other) {
      for (int p = 0; p < LANES / WIDTH; ++p) part[p] += factor * other.part[p];
    }
  };
};

// A product with one matrix on the right, which stays the same over time:
// C (rows, N) = A (rows, K) @ B (K, N) + beta * C, B given as it lies (ld) or transposed.
// A matrix of mostly zeros is multiplied entry by entry.
struct Product {
  int n, k, ld;
  bool transposed;
  const T* matrix;
  float* packed;
  compute_t compute;
  gemm_t gemm;
  bool few;
  Sparse sparse;

  void prepare(const Call& c, const T* b, int rows, int n_, int k_, int ld_, bool transposed_) {
    compute = c.compute, gemm = c.gemm, matrix = b, n = n_, k = k_, ld = ld_, transposed = transposed_, packed = nullptr;
    few = sparse.fill(b, n, k, ld, transposed);
    if (few) return;
    if (sizeof(T) == 4 && c.pack) {
      size_t bytes = c.pack_size(162, rows, n, k);
      if (posix_memalign((void**)&packed, 64, bytes + 64)) packed = nullptr;
      if (packed)
        c.pack(101, 162, transposed ? 112 : 111, rows, n, k, 1.0f, (const float*)b, ld, packed);
    }
  }
  void run(int rows, const T* a, int lda, T beta, T* out, int ldc) const {
    if (few) return sparse.run(rows, n, k, a, lda, beta, out, ldc);
    if (packed) {
      compute(101, 111, 151, rows, n, k, (const float*)a, lda, packed, ld, (float)beta,
                    (float*)out, ldc);
      return;
    }
    const T one = 1;
    gemm(transposed ? "T" : "N", "N", &n, &rows, &k, &one, matrix, &ld, a, &lda, &beta, out,
               &ldc);
  }
  void release() { free(packed); }
};

struct Products {
  Product of[STAGES][MOST_BLOCKS];
};

// Rows that read each other stay together.
static int64_t slice_start(const Call& c, int64_t slice) {
  return c.batch / TOGETHER * slice / c.threads * TOGETHER;
}

// The rows of a slice that have a row so much further on, and the first of them.
static inline int rows_with(int rows, const Block& of) { return std::max(0, rows - std::abs(of.shift)); }
static inline int64_t first_with(const Block& of) { return std::max(0, -of.shift); }

static void prepare_products(const Call& c, Products& all, bool backward) {
  const int rows = (int)((c.batch + c.threads - 1) / c.threads);
  for (int s = 0; s < STAGES; ++s) {
    for (int b = 0; b < BLOCKS[s]; ++b) {
      const Block& of = BLOCK[s][b];
      const T* matrix = c.weight[s] + of.matrix;
      if (backward)
        all.of[s][b].prepare(c, matrix, rows, of.columns, of.rows, LD[s], false);
      else
        all.of[s][b].prepare(c, matrix, rows, of.rows, of.columns, LD[s], true);
    }
  }
}

static void release_products(Products& all) {
  for (int s = 0; s < STAGES; ++s)
    for (int b = 0; b < BLOCKS[s]; ++b) all.of[s][b].release();
}

// Where the value of a field before a stage at time t is, and where that after it goes.
static inline T* before(const Call& c, int stage, int field, int64_t t) {
  for (int s = stage - 1; s >= 0; --s)
    if (CHANGES[s][field]) return LAST[s][field] ? c.field[field].at(t + 1) : c.between[s][field].at(t);
  return c.field[field].at(t);
}
static inline T* after(const Call& c, int stage, int field, int64_t t) {
  return LAST[stage][field] ? c.field[field].at(t + 1) : c.between[stage][field].at(t);
}

static inline const T* gates_of(const Call& c, int stage, int64_t t) {
  return SUMMED[stage] ? c.gates_x + t * c.batch * GATES : c.product[stage].at(t);
}

static void forward_slice(const Call& c, const Products& products, int64_t low, int64_t high) {
  const int rows = (int)(high - low);
  for (int64_t t = 0; t < c.steps; ++t) {
    const T* gates_x = c.gates_x + t * c.batch * GATES;
    for (int s = 0; s < STAGES; ++s) {
      T* gates_h = RECUR[s] ? (T*)gates_of(c, s, t) : nullptr;
      if (RECUR[s]) {
        T* out = gates_h + low * RECUR[s];
        bool add = SUMMED[s];
        if (c.bias[s]) {
          for (int b = 0; b < rows; ++b)
            for (int64_t j = 0; j < RECUR[s]; ++j)
              out[b * RECUR[s] + j] = (add ? out[b * RECUR[s] + j] : T(0)) + c.bias[s][j];
          add = true;
        }
        for (int b = 0; b < BLOCKS[s]; ++b) {
          const Block& of = BLOCK[s][b];
          const int64_t width = WIDTH[of.field];
          const T* from = of.lag ? c.field[0].at(t + 1 - of.lag) : before(c, s, of.field, t);
          const int64_t at = first_with(of);
          const T* read = from + (low + at + of.shift) * width + of.column;
          products.of[s][b].run(rows_with(rows, of), read, (int)width, add || !of.first ? T(1) : T(0),
                                out + at * RECUR[s] + of.row, (int)RECUR[s]);
        }
      }
      const T* state[FIELDS];
      T* next[FIELDS];
      const T* from[FIELDS];
      T* to[FIELDS];
      for (int f = 0; f < FIELDS; ++f) from[f] = before(c, s, f, t), to[f] = after(c, s, f, t);
      for (int64_t b = low; b < high; ++b) {
        if (c.keep && !c.keep[t * c.batch + b]) continue;
        for (int f = 0; f < FIELDS; ++f) {
          state[f] = from[f] + b * WIDTH[f];
          next[f] = to[f] + b * WIDTH[f];
        }
        forward_row(s, gates_x + b * GATES, gates_h + b * RECUR[s], state, c.params[s], next);
      }
    }
    if (!c.keep) continue;
    for (int64_t b = low; b < high; ++b) {
      const bool kept = c.keep[t * c.batch + b];
      for (int f = 0; !kept && f < FIELDS; ++f)
        std::memcpy(c.field[f].at(t + 1) + b * WIDTH[f], c.field[f].at(t) + b * WIDTH[f],
                    WIDTH[f] * sizeof(T));
      T* y = c.y + (t * c.batch + b) * OUTPUT;
      if (kept)
        std::memcpy(y, c.field[0].at(t + 1) + b * OUTPUT, OUTPUT * sizeof(T));
      else
        std::memset(y, 0, OUTPUT * sizeof(T));
    }
  }
}

static void backward_slice(const Call& c, const Products& products, int64_t slice, int64_t low,
                           int64_t high) {
  const int rows = (int)(high - low);
  std::vector<T> room[2][FIELDS], step_sums[STAGES][MOST_PARAMS];
  for (int s = 0; s < STAGES; ++s)
    for (int p = 0; p < PARAMS[s]; ++p) step_sums[s][p].assign(SIZE[s][p], T(0));
  T* grad[FIELDS];
  T* other[FIELDS];
  for (int f = 0; f < FIELDS; ++f) {
    for (auto& side : room) side[f].assign(rows * WIDTH[f] + 16, T(0));
    grad[f] = room[0][f].data(), other[f] = room[1][f].data();
    if (c.grad_last[f])
      std::memcpy(grad[f], c.grad_last[f] + low * WIDTH[f], rows * WIDTH[f] * sizeof(T));
  }
  for (int64_t t = c.steps - 1; t >= 0; --t) {
    const uint8_t* keep = c.keep ? c.keep + t * c.batch : nullptr;
    const T* grad_y = c.grad_y + t * c.batch * OUTPUT;
    for (int64_t b = low; b < high; ++b) {
      if (keep && !keep[b]) continue;
      T* h = grad[0] + (b - low) * OUTPUT;
      for (int64_t j = 0; j < OUTPUT; ++j) h[j] += grad_y[b * OUTPUT + j];
    }
    const T* gates_x = c.gates_x + t * c.batch * GATES;
    T* into_x = c.into_x + t * c.batch * GATES;
    for (int s = STAGES - 1; s >= 0; --s) {
      const T* gates_h = RECUR[s] ? gates_of(c, s, t) : nullptr;
      T* into_h = RECUR[s] ? c.into_h[s] + t * c.batch * RECUR[s] : nullptr;
      T* sums[MOST_PARAMS];
      for (int p = 0; p < PARAMS[s]; ++p) sums[p] = step_sums[s][p].data();
      const T* from[FIELDS];
      for (int f = 0; f < FIELDS; ++f) from[f] = before(c, s, f, t);
      for (int64_t b = low; b < high; ++b) {
        const T* state[FIELDS];
        const T* grad_next[FIELDS];
        T* grad_state[FIELDS];
        for (int f = 0; f < FIELDS; ++f) {
          state[f] = from[f] + b * WIDTH[f];
          grad_next[f] = grad[f] + (b - low) * WIDTH[f];
          grad_state[f] = other[f] + (b - low) * WIDTH[f];
        }
        if (keep && !keep[b]) {
          for (int f = 0; f < FIELDS; ++f)
            std::memcpy(grad_state[f], grad_next[f], WIDTH[f] * sizeof(T));
          if (s == STAGES - 1) std::memset(into_x + b * GATES, 0, GATES * sizeof(T));
          if (RECUR[s]) std::memset(into_h + b * RECUR[s], 0, RECUR[s] * sizeof(T));
          continue;
        }
        backward_row(s, gates_x + b * GATES, gates_h + b * RECUR[s], state, c.params[s], grad_next,
                     into_x + b * GATES, into_h + b * RECUR[s], grad_state, sums);
      }
      // A step's own sum has few terms; over time they are added up in double.
      for (int p = 0; p < PARAMS[s]; ++p) {
        double* total = c.sums[s][p] + slice * SIZE[s][p];
        for (int64_t j = 0; j < SIZE[s][p]; ++j) total[j] += sums[p][j], sums[p][j] = 0;
      }
      for (int f = 0; f < FIELDS; ++f) std::swap(grad[f], other[f]);
      for (int b = 0; b < BLOCKS[s]; ++b) {
        const Block& of = BLOCK[s][b];
        // What read an output of the past adds to the gradient of that output.
        T* late = (T*)c.grad_y + ((t - of.lag) * c.batch + low) * OUTPUT;
        const int64_t at = first_with(of);
        products.of[s][b].run(rows_with(rows, of), into_h + (low + at) * RECUR[s] + of.row, (int)RECUR[s], T(1),
                              (of.lag ? late : grad[of.field]) + (at + of.shift) * WIDTH[of.field] + of.column,
                              (int)WIDTH[of.field]);
      }
    }
  }
  for (int f = 0; f < FIELDS; ++f)
    std::memcpy(c.grad_first[f] + low * WIDTH[f], grad[f], rows * WIDTH[f] * sizeof(T));
}

template <typename Body>
static void over_slices(const Call& c, Body body) {
  if (c.threads == 1) {
    body(0, 0, c.batch);
    return;
  }
#pragma omp parallel for num_threads(c.threads) schedule(static, 1)
  for (int64_t slice = 0; slice < c.threads; ++slice) {
    // The cores are taken by the slices: a product must not ask for them again.
    if (c.set_threads) c.set_threads(1);
    body(slice, slice_start(c, slice), slice_start(c, slice + 1));
    if (c.set_threads) c.set_threads(0);
  }
}

extern "C" void seqmodels_forward(const Call* call) {
  Products products;
  prepare_products(*call, products, false);
  over_slices(*call, [&](int64_t, int64_t low, int64_t high) {
    forward_slice(*call, products, low, high);
  });
  release_products(products);
}

extern "C" void seqmodels_backward(const Call* call) {
  Products products;
  prepare_products(*call, products, true);
  over_slices(*call, [&](int64_t slice, int64_t low, int64_t high) {
    backward_slice(*call, products, slice, low, high);
  });
  release_products(products);
}

extern "C" int64_t seqmodels_call_size() { return sizeof(Call); }
