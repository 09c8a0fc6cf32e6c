//! Anonymous memory whose pages can be given back while the address range stays reserved.
#![allow(unsafe_code)]

use std::ops::Range;
use std::ptr::NonNull;
use std::{io, slice};

/// How the kernel is told that pages hold nothing of worth.
///
/// Apple's kernel keeps counting pages against the process after `MADV_DONTNEED`; only this advice takes
/// them off the footprint that an extension is killed for.
#[cfg(any(target_os = "ios", target_os = "macos"))]
const GIVE_BACK: libc::c_int = libc::MADV_FREE_REUSABLE;
#[cfg(not(any(target_os = "ios", target_os = "macos")))]
const GIVE_BACK: libc::c_int = libc::MADV_DONTNEED;

/// The size of a page: 4 KiB, or 16 KiB on Apple's and on newer Android systems.
pub(crate) fn page_bytes() -> usize {
    // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).ok().filter(|bytes| bytes.is_power_of_two()).unwrap_or(16 * 1024)
}

/// A private anonymous mapping. A page costs nothing until it is first written.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory of the process, owned by this value alone and bound to no thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes of zeros.
    ///
    /// # Errors
    /// When the address space or the process's limit is used up, or `len` is 0.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANON,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    /// Gives the pages of `range` back to the system; what they held is lost, and they read as zeros or
    /// as before until they are written again. The borders are to be multiples of the page size.
    ///
    /// # Panics
    /// When `range` lies outside the mapping.
    pub(crate) fn give_back(&mut self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.len, "range within the mapping");
        // SAFETY: `range` lies within the mapping, so the sum stays inside one allocation.
        let start = unsafe { self.start.add(range.start) };
        // SAFETY: the pages are ours, private and anonymous; a caller that still reads them owns the loss.
        let status = unsafe { libc::madvise(start.as_ptr().cast(), range.len(), GIVE_BACK) };
        debug_assert_eq!(status, 0, "page-aligned advice on our own mapping");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what mmap gave, and nothing borrows from it any more.
        let status = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(status, 0, "unmapping our own mapping");
    }
}

/// A family of types that borrow memory: the type with its lifetime left open.
pub(crate) trait Tenant {
    /// The type that borrows for `'memory`.
    type At<'memory>;
}

/// A mapping together with the value that lives in it.
///
/// The value is reached only inside closures that hold for every lifetime, so neither it nor its memory
/// can get out.
pub(crate) struct Tenancy<T: Tenant> {
    // INVARIANT: declared before the mapping it borrows from, so it is dropped before it.
    tenant: T::At<'static>,
    mapping: Mapping,
}

impl<T: Tenant> Tenancy<T> {
    /// Lends all of `mapping` to what `build` makes.
    pub(crate) fn new(
        mapping: Mapping,
        build: impl for<'memory> FnOnce(&'memory mut [u8]) -> T::At<'memory>,
    ) -> Self {
        // SAFETY: the memory is mapped, initialised (zeros or earlier bytes) and, until `mapping` is
        // dropped or moved out after the tenant, reached through this slice alone. The lifetime is a
        // promise kept by this type: `build` and `with` cannot name it, and the fields drop in order.
        let memory: &'static mut [u8] =
            unsafe { slice::from_raw_parts_mut(mapping.start.as_ptr(), mapping.len) };
        Self { tenant: build(memory), mapping }
    }

    /// Lends the tenant.
    pub(crate) fn with<R>(&mut self, use_it: impl for<'memory> FnOnce(&mut T::At<'memory>) -> R) -> R {
        use_it(&mut self.tenant)
    }

    /// Gives pages back under the tenant, which must not count on what they held.
    ///
    /// # Panics
    /// When `range` lies outside the mapping.
    pub(crate) fn give_back(&mut self, range: Range<usize>) {
        self.mapping.give_back(range);
    }

    /// Ends the tenancy and keeps the mapping.
    pub(crate) fn into_mapping(self) -> Mapping {
        let Self { tenant, mapping } = self;
        drop(tenant);
        mapping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes;

    impl Tenant for Bytes {
        type At<'memory> = &'memory mut [u8];
    }

    fn bytes(len: usize) -> Tenancy<Bytes> {
        Tenancy::new(Mapping::new(len).unwrap(), |memory| memory)
    }

    #[test]
    fn memory_is_writable_to_its_last_byte() {
        let len = 4 * page_bytes();
        let mut bytes = bytes(len);
        bytes.with(|bytes| {
            assert_eq!(bytes.len(), len);
            bytes.fill(7);
            assert!(bytes.iter().all(|&byte| byte == 7));
        });
    }

    #[cfg(not(any(target_os = "ios", target_os = "macos")))] // Apple's pages may keep their bytes
    #[test]
    fn pages_given_back_are_empty_and_their_neighbours_are_not() {
        let page = page_bytes();
        let mut bytes = bytes(4 * page);
        bytes.with(|bytes| bytes.fill(7));
        bytes.give_back(page..3 * page);
        bytes.with(|bytes| {
            assert!(bytes[..page].iter().all(|&byte| byte == 7));
            assert!(bytes[page..3 * page].iter().all(|&byte| byte == 0));
            assert!(bytes[3 * page..].iter().all(|&byte| byte == 7));
        });
    }

    #[test]
    fn a_mapping_outlives_its_tenancy() {
        let mut first = bytes(page_bytes());
        first.with(|bytes| bytes[0] = 9);
        let mut second = Tenancy::<Bytes>::new(first.into_mapping(), |memory| memory);
        second.with(|bytes| assert_eq!(bytes[0], 9));
    }

    #[test]
    #[should_panic(expected = "range within the mapping")]
    fn a_range_outside_the_mapping_is_refused() {
        Mapping::new(page_bytes()).unwrap().give_back(0..2 * page_bytes());
    }

    #[test]
    fn an_empty_mapping_is_an_error() {
        assert!(Mapping::new(0).is_err());
    }
}
