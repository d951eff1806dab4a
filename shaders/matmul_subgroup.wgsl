// Matrix products on CPU adapters with subgroups of 8: the layouts and the contract of matmul.wgsl, WIDE only.
//
//   nt   C[M, N] = A[M, K] · B[N, K]ᵀ       nn   C[M, N] = A[M, K] · B[K, N]       tn   C[M, N] = A[K, M]ᵀ · B[K, N]
//
// Grid       x: tiles of 32 columns, y: tiles of 16 rows; one workgroup is one subgroup of 8 threads, one tile a workgroup.
// Why so     On lavapipe a load costs about five multiply-adds, whatever it loads, because each lane is served by itself.
//            So values that all lanes share are fetched once: lane l loads element l of a run of eight of A, and
//            subgroupBroadcast hands it to everyone. A thread owns four columns (one vec4) of 16 rows: 48 scalar loads feed
//            512 multiply-adds, against 64 for 256 with direct loads.
//            Runs of K past the end multiply zeros; columns and rows past the end are clamped on load and not stored.

struct Params {
    m: u32,
    n: u32,
    k: u32,
    a_start: u32,
    b_start: u32,
    c_start: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4<f32>>; // [M, N / 4]
#if BIAS
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>; // [N / 4]
#endif
#if RESIDUAL
@group(0) @binding(4) var<storage, read> residual: array<vec4<f32>>; // [M, N / 4]
#endif

fn store(row: u32, column: u32, value: vec4<f32>) {
    if (row >= params.m || column >= params.n / 4u) {
        return;
    }
    let i = (params.c_start + row) * (params.n / 4u) + column;
    var v = value;
#if BIAS
    v += bias[column];
#endif
#if RESIDUAL
    v += residual[i];
#endif
#if ACCUMULATE
    v += c[i];
#endif
    c[i] = v;
}

#if nt
@compute @workgroup_size(8)
fn nt(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y * 16u;
    let column = group.x * 8u + lane; // in vec4
    let wide = params.k / 4u;
#for J 4
    let b{{J}} = min(column * 4u + {{J}}u, params.n - 1u) * wide;
#end
#for I 16
    let a{{I}} = (params.a_start + min(row + {{I}}u, params.m - 1u)) * params.k;
    var c{{I}} = vec4<f32>();
#end
    for (var i = 0u; i < params.k; i += 8u) {
        // Whole runs of four only: K is a multiple of 4, so the second half may lie past the end.
        let second = min(i / 4u + 1u, wide - 1u);
#for J 4
        let p{{J}} = b[b{{J}} + i / 4u];
        let q{{J}} = b[b{{J}} + second];
#end
        let at = min(i + lane, params.k - 1u);
        let inside = select(0.0, 1.0, i + lane < params.k);
#for I 16
        let x{{I}} = a[a{{I}} + at] * inside;
#end
#for S 4
        let u{{S}} = vec4<f32>(p0[{{S}}], p1[{{S}}], p2[{{S}}], p3[{{S}}]);
        let v{{S}} = vec4<f32>(q0[{{S}}], q1[{{S}}], q2[{{S}}], q3[{{S}}]);
#end
#for I 16
#for S 4
        c{{I}} += subgroupBroadcast(x{{I}}, {{S}}u) * u{{S}};
#end
#for S 4
        c{{I}} += subgroupBroadcast(x{{I}}, 4u + {{S}}u) * v{{S}};
#end
#end
    }
#for I 16
    store(row + {{I}}u, column, c{{I}});
#end
}
#endif

#if nn
@compute @workgroup_size(8)
fn nn(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y * 16u;
    let column = group.x * 8u + lane; // in vec4
    let width = params.n / 4u;
    let shown = min(column, width - 1u);
#for I 16
    let a{{I}} = (params.a_start + min(row + {{I}}u, params.m - 1u)) * params.k;
    var c{{I}} = vec4<f32>();
#end
    for (var i = 0u; i < params.k; i += 8u) {
#for S 8
        let u{{S}} = b[min(i + {{S}}u, params.k - 1u) * width + shown];
#end
        let at = min(i + lane, params.k - 1u);
        let inside = select(0.0, 1.0, i + lane < params.k);
#for I 16
        let x{{I}} = a[a{{I}} + at] * inside;
#for S 8
        c{{I}} += subgroupBroadcast(x{{I}}, {{S}}u) * u{{S}};
#end
#end
    }
#for I 16
    store(row + {{I}}u, column, c{{I}});
#end
}
#endif

#if tn
@compute @workgroup_size(8)
fn tn(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y * 16u;
    let column = group.x * 8u + lane; // in vec4
    let width = params.n / 4u;
    let shown = min(column, width - 1u);
    let upper = min(row + lane, params.m - 1u);
    let lower = min(row + 8u + lane, params.m - 1u);
#for I 16
    var c{{I}} = vec4<f32>();
#end
    for (var i = 0u; i < params.k; i += 4u) {
#for S 4
        let t{{S}} = min(i + {{S}}u, params.k - 1u);
        let inside{{S}} = select(0.0, 1.0, i + {{S}}u < params.k);
        let p{{S}} = a[(params.a_start + t{{S}}) * params.m + upper] * inside{{S}};
        let q{{S}} = a[(params.a_start + t{{S}}) * params.m + lower] * inside{{S}};
        let u{{S}} = b[(params.b_start + t{{S}}) * width + shown];
#end
#for S 4
#for I 8
        c{{I}} += subgroupBroadcast(p{{S}}, {{I}}u) * u{{S}};
#end
        c8 += subgroupBroadcast(q{{S}}, 0u) * u{{S}};
        c9 += subgroupBroadcast(q{{S}}, 1u) * u{{S}};
        c10 += subgroupBroadcast(q{{S}}, 2u) * u{{S}};
        c11 += subgroupBroadcast(q{{S}}, 3u) * u{{S}};
        c12 += subgroupBroadcast(q{{S}}, 4u) * u{{S}};
        c13 += subgroupBroadcast(q{{S}}, 5u) * u{{S}};
        c14 += subgroupBroadcast(q{{S}}, 6u) * u{{S}};
        c15 += subgroupBroadcast(q{{S}}, 7u) * u{{S}};
#end
    }
#for I 16
    store(row + {{I}}u, column, c{{I}});
#end
}
#endif
