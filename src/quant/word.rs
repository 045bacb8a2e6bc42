//! What a code lies in while it is worked on.

/// An unsigned integer that holds one code, counted from 0: `u8` for 1 to 8 bits, `u16` for 9 to 16.
pub trait Word: Copy + Default + Eq + Send + Sync + sealed::Sealed + 'static {
    /// The most bits of a code.
    const BITS: u8;
    /// The low bits of `code`.
    fn of(code: u32) -> Self;
    /// The code.
    fn code(self) -> u32;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u16 {}
}

impl Word for u8 {
    const BITS: u8 = 8;
    #[inline(always)]
    fn of(code: u32) -> Self {
        code as Self
    }
    #[inline(always)]
    fn code(self) -> u32 {
        u32::from(self)
    }
}

impl Word for u16 {
    const BITS: u8 = 16;
    #[inline(always)]
    fn of(code: u32) -> Self {
        code as Self
    }
    #[inline(always)]
    fn code(self) -> u32 {
        u32::from(self)
    }
}
