//! The data format, pinned. A failure here means that rows which an earlier pgring wrote
//! would no longer be found: never adjust the values to the code.

use super::*;

/// The buffer of xxHash's own sanity test (tests/sanity_test.c).
fn sanity_buffer() -> Vec<u8> {
    let mut generator: u64 = 2_654_435_761;
    let next = || {
        let byte = (generator >> 56) as u8;
        generator = generator.wrapping_mul(11_400_714_785_074_694_797);
        byte
    };
    std::iter::repeat_with(next).take(600).collect()
}

#[test]
fn the_hash_is_xxh3() {
    let buffer = sanity_buffer();
    for (length, hash) in [
        (0, 0x2D06_8005_38D3_94C2_u64),
        (1, 0xC44B_DFF4_074E_ECDB),
        (6, 0x27B5_6A84_CD2D_7325),
        (12, 0xA713_DAF0_DFBB_77E7),
        (24, 0xA3FE_70BF_9D35_10EB),
        (48, 0x397D_A259_ECBA_1F11),
        (80, 0xBCDE_FBBB_2C47_C90A),
        (195, 0xCD94_217E_E362_EC3A),
        (403, 0xCDEB_804D_65C6_DEA4),
        (512, 0x617E_4959_9013_CB6B),
    ] {
        assert_eq!(Key::Text(&buffer[..length]).hash(), KeyHash(hash), "{length} bytes");
    }
}

/// Hash, owner on the ring of s1, s2 and s3, owner on the weighted ring. Computed by another
/// implementation of DESIGN section 3 over another library (Python's xxhash and bisect).
#[rustfmt::skip]
const KEYS: &[(Key<'static>, u64, &str, &str)] = &[
    (Key::Integer(0), 0xc77b_3abb_6f87_acd9, "s1", "tokyo-1"),
    (Key::Integer(1), 0x2fbc_5935_64db_792e, "s2", "tokyo-1"),
    (Key::Integer(-1), 0x5111_c7e4_7d78_4413, "s3", "paris"),
    (Key::Integer(2), 0x2086_c65c_91ee_e243, "s2", "berlin"),
    (Key::Integer(7), 0x8167_1e58_d6b5_96af, "s2", "tokyo-1"),
    (Key::Integer(42), 0xd5a6_f8c8_38df_27c8, "s3", "tokyo-1"),
    (Key::Integer(100), 0xb847_3533_128e_3c5b, "s2", "berlin"),
    (Key::Integer(1000), 0x8b12_8e30_f237_258d, "s2", "paris"),
    (Key::Integer(65535), 0x658c_b27d_c3f7_f28a, "s2", "tokyo-1"),
    (Key::Integer(65536), 0xf55f_97f4_cfd2_25b0, "s1", "berlin"),
    (Key::Integer(i32::MAX as i64), 0x4f7e_af7f_8d76_36f2, "s3", "paris"),
    (Key::Integer(i32::MIN as i64), 0xc264_7c75_780a_00fd, "s2", "tokyo-1"),
    (Key::Integer(i64::MAX), 0xa233_cf37_6558_df46, "s2", "tokyo-1"),
    (Key::Integer(i64::MIN), 0x828f_2476_789a_0e5f, "s2", "tokyo-1"),
    (Key::Integer(1_234_567_890_123), 0xf184_c651_a63e_dda6, "s3", "berlin"),
    (Key::Text(b""), 0x2d06_8005_38d3_94c2, "s2", "paris"),
    (Key::Text(b"a"), 0xe6c6_32b6_1e96_4e1f, "s3", "paris"),
    (Key::Text(b"42"), 0x1217_cb28_c0ef_2191, "s3", "berlin"),
    (Key::Text(b"alice"), 0x4da1_0dd6_1a01_16b0, "s2", "paris"),
    (Key::Text(b"user@example.org"), 0xe917_b4a8_6760_4d25, "s2", "tokyo-1"),
    (Key::Text("Zürich".as_bytes()), 0x0ba4_4fcc_12cc_a74e, "s3", "tokyo-1"),
    (Key::Text(&[b'x'; 300]), 0xa5d1_b460_7dc8_3554, "s1", "tokyo-1"),
    (Key::Uuid([0; 16]), 0xd0a6_6a65_c752_8968, "s3", "tokyo-1"),
    (Key::Uuid(0xa0eebc99_9c0b_4ef8_bb6d_6bb9bd380a11_u128.to_be_bytes()), 0x55df_6948_2c6d_3767, "s3", "tokyo-1"),
    (Key::Uuid(0x01890a5d_ac96_774b_bcce_b302099a8057_u128.to_be_bytes()), 0xe0b4_21e6_d6f7_7d89, "s2", "paris"),
    (Key::Uuid([0xff; 16]), 0x722a_202f_07a4_b313, "s1", "paris"),
];

fn plain_ring() -> Ring {
    Ring::new(&[("s1", 1), ("s2", 1), ("s3", 1)], 1024)
}

fn weighted_ring() -> Ring {
    Ring::new(&[("berlin", 1), ("paris", 2), ("tokyo-1", 5)], 256)
}

#[test]
fn keys_stay_where_they_are() {
    let (plain, weighted) = (plain_ring(), weighted_ring());
    for (key, hash, plain_owner, weighted_owner) in KEYS {
        assert_eq!(key.hash(), KeyHash(*hash), "{key:?}");
        assert_eq!(plain.names()[plain.owner(key.hash()).index()], *plain_owner, "{key:?}");
        assert_eq!(weighted.names()[weighted.owner(key.hash()).index()], *weighted_owner, "{key:?}");
    }
}

#[test]
fn ten_thousand_owners_in_one_digest() {
    for (ring, digest) in
        [(plain_ring(), 0x5fb6_5420_77bb_d64f_u64), (weighted_ring(), 0x26b0_df61_06f3_dd8a)]
    {
        let owner = |key| ring.names()[ring.owner(Key::Integer(key).hash()).index()].as_str();
        let owners: String = (0..10_000).map(owner).collect();
        assert_eq!(XxHash3_64::oneshot(owners.as_bytes()), digest);
    }
}

#[test]
fn shares_are_exact() {
    let space = 2_f64.powi(64);
    for (ring, hashes) in [
        (plain_ring(), [5_972_099_191_277_980_370_u64, 6_224_207_084_435_035_031, 6_250_437_797_996_536_215]),
        (weighted_ring(), [2_182_680_042_014_453_528, 4_611_266_656_294_257_554, 11_652_797_375_400_840_534]),
    ] {
        assert_eq!(ring.shares(), hashes.map(|count| count as f64 / space));
    }
}

#[test]
fn integers_of_any_width_meet() {
    let wide = Key::Integer(-5).hash();
    assert_eq!(Key::Integer(i64::from(-5_i16)).hash(), wide);
    assert_eq!(Key::Integer(i64::from(-5_i32)).hash(), wide);
    assert_eq!(Key::Text(&(-5_i64).to_le_bytes()).hash(), wide, "8 little-endian bytes");
}
