//! What the allocator keeps for itself of what was freed.
#![allow(unsafe_code)]

/// Has the allocator give free pages back to the system: also those between what lives on, which it keeps
/// otherwise. Walks the whole heap, so it is for calm moments. Does nothing where the allocator cannot be asked.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: takes the allocator's own locks, and touches free memory alone.
        let _was_any = unsafe { libc::malloc_trim(0) };
    }
    #[cfg(target_os = "android")]
    {
        // SAFETY: looks a name up among the libraries that are loaded.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"mallopt".as_ptr()) };
        if !found.is_null() {
            // SAFETY: this is what bionic's <malloc.h> declares under that name.
            let mallopt: unsafe extern "C" fn(libc::c_int, libc::c_int) -> libc::c_int =
                unsafe { std::mem::transmute(found) };
            // SAFETY: as with glibc. Systems before API 28 do not know the option, and say so.
            let _was_known = unsafe { mallopt(M_PURGE, 0) };
        }
    }
    #[cfg(any(target_os = "ios", target_os = "macos"))]
    {
        // SAFETY: as above. No zone stands for all of them, and no goal for as much as there is.
        let _bytes = unsafe { foreign::malloc_zone_pressure_relief(std::ptr::null_mut(), 0) };
    }
}

/// bionic's `<malloc.h>`. `mallopt` itself is there from API 26 on, so that it cannot be linked.
#[cfg(target_os = "android")]
const M_PURGE: libc::c_int = -101;

/// What the libc crate does not declare.
#[cfg(any(target_os = "ios", target_os = "macos"))]
mod foreign {
    unsafe extern "C" {
        /// `<malloc/malloc.h>`
        pub(super) fn malloc_zone_pressure_relief(zone: *mut libc::c_void, goal: usize) -> usize;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_lives_keeps_its_bytes() {
        let mut blocks: Vec<_> = (0..=u8::MAX).map(|byte| vec![byte; 5000]).collect();
        blocks.retain(|block| block[0] % 2 == 0);
        super::give_back();
        for (block, byte) in blocks.iter().zip((0..=u8::MAX).step_by(2)) {
            assert!(block.iter().all(|&found| found == byte));
        }
    }
}
