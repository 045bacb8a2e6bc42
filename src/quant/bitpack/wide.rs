//! A unit of wide codes in words of four, one code per 16 bits, and the same unit packed in the low end of such words.
//!
//! Where a code is dealt out over the top bits of the others, it is multiplied by a [`comb`], as in
//! [`words`](super::words); the way back is a multiplication too, which brings the top bits of four codes side by side.

use super::words::comb;

/// `x` in each of the four places of a word.
const fn four(x: u64) -> u64 {
    x * comb(4, 0, 16)
}

/// The lowest three places of a word.
const THREE: u64 = (1 << 48) - 1;

/// The code in place `i`, and above it what the higher places hold.
#[inline(always)]
fn from(word: u64, i: u32) -> u64 {
    word >> (16 * i)
}

/// The code in place `i`.
#[inline(always)]
fn at(word: u64, i: u32) -> u64 {
    from(word, i) & 0xffff
}

#[inline(always)]
pub(super) fn pack9([a, b, c, d]: [u64; 4]) -> [u64; 3] {
    // Two bits in each of four places, side by side.
    let fold = |v: u64| {
        let v = (v >> 7) & four(3);
        let v = v | (v >> 14);
        (v | (v >> 28)) & 0xff
    };
    [a | ((c & four(0x7f)) << 9), b | ((d & four(0x7f)) << 9), fold(c) | (fold(d) << 8)]
}

#[inline(always)]
pub(super) fn unpack9([a, b, e]: [u64; 3]) -> [u64; 4] {
    let unfold = |p: u64| {
        let p = p & 0xff;
        let p = p | (p << 28);
        ((p | (p << 14)) & four(3)) << 7
    };
    let (low, high) = (four(0x1ff), four(0x7f));
    [a & low, b & low, ((a >> 9) & high) | unfold(e), ((b >> 9) & high) | unfold(e >> 8)]
}

#[inline(always)]
pub(super) fn pack10([a, b]: [u64; 2]) -> [u64; 2] {
    let (v4, v5, v6, v7) = (at(b, 0), at(b, 1), at(b, 2), from(b, 3));
    let low = a | (((b >> 16) & four(0x3f)) << 10);
    [low | ((v5 >> 6) << 58) | ((v7 >> 8) << 62), v4 | ((v6 >> 6) << 10) | (((v7 >> 6) & 3) << 14)]
}

#[inline(always)]
pub(super) fn unpack10([a, b]: [u64; 2]) -> [u64; 2] {
    let v5 = (a >> 10) & 0x3f | ((a >> 52) & 0x3c0);
    let v6 = (a >> 26) & 0x3f | ((b >> 4) & 0x3c0);
    let v7 = (a >> 42) & 0x3f | ((b >> 8) & 0xc0) | ((a >> 54) & 0x300);
    [a & four(0x3ff), (b & 0x3ff) | (v5 << 16) | (v6 << 32) | (v7 << 48)]
}

#[inline(always)]
pub(super) fn pack11([a, b, c, d]: [u64; 4]) -> [u64; 3] {
    // The upper six bits of each: places 0, 1, 2 are for v8, v9, v10 and for v11, v12, v13; then come v14 and v15.
    let (c6, d6) = ((c >> 5) & four(0x3f), (d >> 5) & four(0x3f));
    let (v14, v15) = (at(d6, 2), from(d6, 3));
    let rest = (c6 & THREE) | (from(c6, 3) << 6) | ((d6 & 0xffff_ffff) << 22);
    let rest = rest | ((v14 & 0xf) << 12) | ((v15 & 0xf) << 28) | ((v14 >> 4) << 44) | ((v15 >> 4) << 46);
    [a | ((c & four(0x1f)) << 11), b | ((d & four(0x1f)) << 11), rest]
}

#[inline(always)]
pub(super) fn unpack11([a, b, e]: [u64; 3]) -> [u64; 4] {
    let v14 = ((e >> 12) & 0xf) | ((e >> 40) & 0x30);
    let v15 = ((e >> 28) & 0xf) | ((e >> 42) & 0x30);
    let c6 = (e & THREE & four(0x3f)) | (((e >> 6) & 0x3f) << 48);
    let d6 = ((e >> 22) & 0x003f_003f) | (v14 << 32) | (v15 << 48);
    let (low, high) = (four(0x7ff), four(0x1f));
    [a & low, b & low, ((a >> 11) & high) | (c6 << 5), ((b >> 11) & high) | (d6 << 5)]
}

#[inline(always)]
pub(super) fn pack12([a]: [u64; 1]) -> [u64; 1] {
    [(a & THREE) | (from(a, 3).wrapping_mul(comb(3, 4, 20)) & (THREE & four(0xf000)))]
}

#[inline(always)]
pub(super) fn unpack12([a]: [u64; 1]) -> [u64; 1] {
    let v3 = ((a >> 4) & 0xf00) | ((a >> 24) & 0xf0) | ((a >> 44) & 0xf);
    [(a & THREE & four(0xfff)) | (v3 << 48)]
}

#[inline(always)]
pub(super) fn pack13([a, b, c, d]: [u64; 4]) -> [u64; 4] {
    // v13, v14, v15 give three bits at a time to three codes.
    let t = d >> 16;
    let three = |k: u32| ((t >> (3 * k)) & (THREE & four(7))) << 13;
    let (t0, t1, t2, t3) = (three(0), three(1), three(2), three(3));
    let tops = ((d >> 15) & (1 << 13)) | ((d >> 30) & (1 << 14)) | ((d >> 45) & (1 << 15));
    [a | t0 | (t1 << 48), b | (t1 >> 16) | (t2 << 32), c | (t2 >> 32) | (t3 << 16), at(d, 0) | tops]
}

#[inline(always)]
pub(super) fn unpack13([a, b, c, e]: [u64; 4]) -> [u64; 4] {
    let low = four(0x1fff);
    let top = |v: u64| (v >> 13) & four(7);
    let (t0, t1, t2) = (top(a), top(b), top(c));
    let three = [t0, (t0 >> 48) | (t1 << 16), (t1 >> 32) | (t2 << 32), t2 >> 16].map(|t| t & THREE);
    let t = three[0] | (three[1] << 3) | (three[2] << 6) | (three[3] << 9);
    let tops = ((e & (1 << 13)) << 15) | ((e & (1 << 14)) << 30) | ((e & (1 << 15)) << 45);
    [a & low, b & low, c & low, (e & 0x1fff) | (t << 16) | tops]
}

#[inline(always)]
pub(super) fn pack14([a, b]: [u64; 2]) -> [u64; 2] {
    let (v7, top) = (from(b, 3), four(0xc000));
    [a | (v7.wrapping_mul(comb(4, 2, 18)) & top), (b & THREE) | (v7.wrapping_mul(comb(3, 10, 18)) & top & THREE)]
}

#[inline(always)]
pub(super) fn unpack14([a, b]: [u64; 2]) -> [u64; 2] {
    // The product brings bit `16j` to bit `54 - 2j`.
    let tops = |v: u64| (((v >> 14) & four(3)).wrapping_mul(comb(4, 0, 18)) >> 48) & 0xff;
    let b = b & THREE;
    [a & four(0x3fff), (b & four(0x3fff)) | (((tops(a) << 6) | (tops(b) >> 2)) << 48)]
}

#[inline(always)]
pub(super) fn pack15([a, b, c, d]: [u64; 4]) -> [u64; 4] {
    let v15 = from(d, 3);
    let top = |first: u64| v15.wrapping_mul(first) & four(0x8000);
    let last = (d & THREE) | (top(comb(3, 13, 17)) & THREE);
    [a | top(comb(4, 1, 17)), b | top(comb(4, 5, 17)), c | top(comb(4, 9, 17)), last]
}

#[inline(always)]
pub(super) fn unpack15([a, b, c, d]: [u64; 4]) -> [u64; 4] {
    // The product brings bit `16j` to bit `51 - j`.
    let tops = |v: u64| (((v >> 15) & four(1)).wrapping_mul(comb(4, 0, 17)) >> 48) & 0xf;
    let (low, d) = (four(0x7fff), d & THREE);
    let v15 = (tops(a) << 11) | (tops(b) << 7) | (tops(c) << 3) | (tops(d) >> 1);
    [a & low, b & low, c & low, (d & low) | (v15 << 48)]
}
