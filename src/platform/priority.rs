//! Which thread runs first where several could.
#![allow(unsafe_code)]

/// Puts this thread before those of apps, where the system allows it; Linux allows it to root alone.
///
/// Each packet that is written wakes the app that it is for. On a core that both share, the app would run at
/// once, take that one packet, and sleep again: a switch of threads for nearly every packet of a batch.
pub(crate) fn prefer_this_thread() {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    {
        // SAFETY: takes numbers alone. 0 is the calling thread.
        let status = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
        if status != 0 {
            tracing::debug!(error = %std::io::Error::last_os_error(), "this thread comes after others");
        }
    }
}

/// Android's `THREAD_PRIORITY_VIDEO`, where a foreground app's own thread is too; sound comes before it (-16).
#[cfg(any(target_os = "android", target_os = "linux"))]
const NICE: libc::c_int = -10;

#[cfg(all(test, any(target_os = "android", target_os = "linux")))]
mod tests {
    use std::thread;

    #[test]
    fn one_thread_is_preferred_and_no_other() {
        // SAFETY: as above.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = nice();
        // Root in a container may lack the right.
        // SAFETY: as above.
        let allowed = thread::spawn(|| unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, super::NICE) } == 0);
        let allowed = allowed.join().unwrap();
        let preferred = thread::spawn(move || {
            super::prefer_this_thread();
            nice()
        });
        assert_eq!(preferred.join().unwrap(), if allowed { super::NICE } else { before });
        assert_eq!(nice(), before);
    }
}
