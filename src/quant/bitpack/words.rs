//! A unit of codes in a little-endian word, one code per byte, and the same unit packed in the low bytes of a word.
//!
//! Where a code of 6 or 7 bits is dealt out over the top bits of the other bytes, it is multiplied by a comb whose teeth
//! are one step further apart than bytes are: the copies do not overlap, and each byte finds its part above its code.

/// `teeth` single bits, the first at `at`, each `step` above the one before.
pub(super) const fn comb(teeth: u32, at: u32, step: u32) -> u64 {
    let (mut comb, mut i) = (0, 0);
    while i < teeth {
        comb |= 1 << (at + step * i);
        i += 1;
    }
    comb
}

#[inline(always)]
pub(super) fn pack1(v: u64) -> u8 {
    let v = v | (v >> 7);
    let v = v | (v >> 14);
    (v | (v >> 28)) as u8
}

#[inline(always)]
pub(super) fn unpack1(p: u8) -> u64 {
    let p = u64::from(p);
    let p = p | (p << 28);
    let p = p | (p << 14);
    (p | (p << 7)) & comb(8, 0, 8)
}

#[inline(always)]
pub(super) fn pack2(v: u32) -> u8 {
    let v = v | (v >> 6);
    (v | (v >> 12)) as u8
}

#[inline(always)]
pub(super) fn unpack2(p: u8) -> u32 {
    let p = u32::from(p);
    let p = p | (p << 12);
    (p | (p << 6)) & 0x0303_0303
}

#[inline(always)]
pub(super) fn pack3(v: u64) -> u64 {
    let (v3, v6) = ((v >> 24) & 0xff_ffff, v >> 48);
    let low = (v & 0xff_ffff) | (v3 << 3);
    low | ((v6 << 6) & 0xc0c0) | ((v6 << 20) & 0x40_0000) | ((v6 << 13) & 0x80_0000)
}

#[inline(always)]
pub(super) fn unpack3(p: u64) -> u64 {
    let v6 = ((p >> 6) & 0x0303) | ((p >> 20) & 0x04) | ((p >> 13) & 0x0400);
    (p & 0x07_0707) | (((p >> 3) & 0x07_0707) << 24) | (v6 << 48)
}

#[inline(always)]
pub(super) fn pack4(v: u16) -> u8 {
    (v | (v >> 4)) as u8
}

#[inline(always)]
pub(super) fn unpack4(p: u8) -> u16 {
    let p = u16::from(p);
    (p | (p << 4)) & 0x0f0f
}

#[inline(always)]
pub(super) fn pack5(v: u64) -> u64 {
    let (v5, v7) = (v >> 40, v >> 56);
    let low = (v & 0xff_ffff_ffff) | ((v5 << 5) & 0xe0_e0e0);
    low | ((v5 << 26) & 0x60_6000_0000) | ((v7 << 27) & 0x8000_0000) | ((v7 << 36) & 0x80_0000_0000)
}

#[inline(always)]
pub(super) fn unpack5(p: u64) -> u64 {
    let v5 = ((p >> 5) & 0x07_0707) | ((p >> 26) & 0x1818) | ((p >> 11) & 0x10_0000) | ((p >> 20) & 0x08_0000);
    (p & 0x1f_1f1f_1f1f) | (v5 << 40)
}

#[inline(always)]
pub(super) fn pack6(v: u64) -> u64 {
    (v & 0xff_ffff) | ((v >> 24).wrapping_mul(comb(3, 2, 10)) & 0xc0_c0c0)
}

#[inline(always)]
pub(super) fn unpack6(p: u64) -> u64 {
    let v3 = ((p >> 2) & 0x30) | ((p >> 12) & 0x0c) | ((p >> 22) & 0x03);
    (p & 0x3f_3f3f) | (v3 << 24)
}

#[inline(always)]
pub(super) fn pack7(v: u64) -> u64 {
    (v & 0xff_ffff_ffff_ffff) | ((v >> 56).wrapping_mul(comb(7, 1, 9)) & 0x80_8080_8080_8080)
}

/// The product brings bit `8j` to bit `62 - j`: the top bits of the seven bytes side by side, the first one highest.
#[inline(always)]
pub(super) fn unpack7(p: u64) -> u64 {
    let tops = ((p >> 7) & comb(7, 0, 8)).wrapping_mul(comb(7, 8, 9));
    (p & (0x7f * comb(7, 0, 8))) | (tops & (0x7f << 56))
}
