//! The reader of loops, on made-up code in the form of each compiler.

use crate::code::{Kind, blocks};
use crate::devices::Compiler;
use crate::figures::HotLoop;

fn hot_loop(compiler: Compiler, text: &str) -> HotLoop {
    HotLoop::of(compiler, &blocks(compiler, text).unwrap()).unwrap()
}

/// Two loads of a block, one of them waited for at the top of the next turn; a small loop without multiply-adds behind it. The
/// header is below the body, as ACO likes to place it.
const ACO: &str = "
BB0:
	s_mov_b32 s3, s1                                            ; be830001
	v_fma_f32 v1, v2, v3, v1                                    ; d6130001 04060702
	s_branch BB2                                                ; bfa00060
BB1:
	s_waitcnt vmcnt(1)                                          ; bf8907f7
	v_fmac_f32_e32 v1, v2, v3                                   ; 56020702
	v_dual_fmac_f32 v4, v5, v6 :: v_dual_mov_b32 v7, 0          ; c8100b05 04060080
	v_add_nc_u32_e32 v8, 1, v8                                  ; 4a101081
	buffer_load_b128 v[9:12], v8, s[4:7], 0 offen               ; e05c0000
	buffer_load_b128 v[13:16], v8, s[4:7], 0 offen offset:16    ; e05c0010
	s_waitcnt vmcnt(1)                                          ; bf8907f7
	ds_load_2addr_b64 v[17:20], v8 offset1:1                    ; d9dc0100
	ds_store_b32 v8, v1                                         ; d8340000
	s_add_u32 s3, s3, 1                                         ; 80038103
BB2:
	s_cmp_lt_u32 s3, s8                                         ; bf0a0803
	s_cbranch_scc1 BB1                                          ; bfa2ff9e
BB3:
	buffer_load_b32 v1, v8, s[4:7], 0 offen                     ; e0500000
	s_waitcnt vmcnt(0)                                          ; bf8903f7
	v_cmp_gt_u32_e32 vcc, s8, v8                                ; 7c880808
	s_cbranch_vccnz BB3                                         ; bfa40000
	buffer_store_b32 v1, v8, s[4:7], 0 offen                    ; e0680000
	s_endpgm                                                    ; bfb00000
	s_nop 0                                                     ; bf800000
	(then repeated 4 times)
";

#[test]
fn aco() {
    for (dual_issue, cycles) in [(true, 5.0_f64), (false, 8.0)] {
        let found = hot_loop(Compiler::Aco { dual_issue }, ACO);
        let counts = [found.instructions, found.multiply_adds, found.other_alu, found.loads, found.shared_loads, found.matrix];
        assert_eq!(counts, [13, 2, 2, 2, 1, 0]);
        // Cycles of the multiply-adds, of all vector operations; of a memory that brings 128 bytes a cycle to two SIMDs.
        let multiply_adds = if dual_issue { 2.0 } else { 4.0 };
        assert_eq!(found.share, (1000.0 * multiply_adds / cycles).round() / 10.0);
        assert_eq!(found.bound, Some((1000.0 * (multiply_adds / 2.0) / 16.0_f64).round() / 10.0), "two loads of 16 bytes bind");
        assert_eq!((found.in_flight, found.least_in_flight), (Some(3), Some(1)));
    }
}

#[test]
fn nak() {
    let text = "
block.u 0 L2 [] -> {
      r0      = s2r sr[0x21]                                  // delay=1 wr:2
      r9      = ffma.ftz r1 r2 r9                             // delay=1
} -> [1]
block 1 L4 [0, 2] -> {
      r4..8   = ld.global.a64.constant.b128 [ur2..4+r1] 0x10  // delay=2 wr:4
      p0 null = isetp.lt.u32 r3 cx[ur2..4][0x0]               // delay=6 wt=000011
      b0      = bssy b0 pT L0                                 // delay=1
@!p0            bra pT L1                                     // delay=1
} -> [2, 3]
block 2 L1 [1] -> {
      r9      = ffma.ftz r4 r5 r9                             // delay=1
      r9      = ffma.ftz r6 r7 r9                             // delay=1
      r10     = ld.shared.strong.cta.b32 [r9]                 // delay=1
                st.shared.strong.cta.b32 [r9] r10             // delay=1
                bra pT L4                                     // delay=1
} -> [1]
block 3 L9 [1] -> {
                st.global.a64.strong.gpu.b32 [r4..6] r9       // delay=1
                exit                                          // delay=1
} -> []
";
    let found = hot_loop(Compiler::Nak, text);
    let counts = [found.instructions, found.multiply_adds, found.other_alu, found.loads, found.shared_loads, found.matrix];
    assert_eq!(counts, [9, 2, 1, 1, 1, 0]);
    assert_eq!((found.share, found.bound, found.in_flight), (22.2, None, None));
}

#[test]
fn ir3() {
    let text = "
Native code for unnamed CL shader (null) with blake3 89b395c4:
; num_ubos:           0
@in(r0.x)	in1 (wrmask=0x7)
shps #l25
(sy)(ss)(rpt2)shr.b r50.y, (r)r49.x, 2
shpe
l25:
(rpt1)mad.f32 r1.x, r2.x, r3.x, r1.x
l104:
cmps.u.ge p0.y, r1.x, c8.y
(ss)br p0.y, #l199
isam.v.base0 (f32)(xyzw)r4.x, r1.x, s#0, t#0
(sy)(rpt3)mad.f32 r1.x, (r)r2.x, (r)r3.x, (r)r1.x
(nop2) add.u r1.x, r1.x, 1
(rpt1)nop
jump #l104
l199:
stib.b.untyped.1d.u32.4.imm.base0 r1.x, r2.x, 3
end
nop
";
    let found = hot_loop(Compiler::Ir3, text);
    let counts = [found.instructions, found.multiply_adds, found.other_alu, found.loads, found.shared_loads, found.matrix];
    assert_eq!(counts, [11, 4, 2, 1, 0, 0]);
    assert_eq!(found.share, 36.4);
}

#[test]
fn code_without_a_loop() {
    for compiler in [Compiler::Aco { dual_issue: true }, Compiler::Nak, Compiler::Ir3] {
        assert!(HotLoop::of(compiler, &blocks(compiler, "").unwrap()).is_none());
    }
    assert!(blocks(Compiler::Agx, "").is_none(), "gives no code");
    let straight = blocks(Compiler::Aco { dual_issue: true }, "BB0:\n\tv_mul_f32_e32 v0, v1, v2 ; 10\n\ts_endpgm ; bf").unwrap();
    assert_eq!(straight[0].instructions[0].kind, Kind::Alu);
    assert!(straight[0].next.is_empty() && HotLoop::of(Compiler::Nak, &straight).is_none());
}
