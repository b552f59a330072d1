//! What the process does when it is interrupted, or when nobody reads its output any more.

/// Lets the process end silently when its reader goes away (`reproduce --list | head -1`), as other tools do.
pub fn end_with_the_pipe() {
    #[cfg(unix)]
    // SAFETY: the default action of a signal is set, before any other thread runs.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// On an interrupt (Ctrl-C) or a request to end (a scheduler's), says that nothing finished is lost, then ends as the signal
/// would. Cells are written atomically, so there is nothing to clean up.
pub fn say_that_a_stopped_run_continues() {
    #[cfg(unix)]
    unix::install();
}

#[cfg(unix)]
mod unix {
    const MESSAGE: &[u8] = b"\nstopped; finished cells are safe: the same command continues with the others\n";

    extern "C" fn stop(signal: libc::c_int) {
        // SAFETY: `write` and `raise` are among the calls that a handler may make. The handler is reset before it runs
        // (SA_RESETHAND), so that the second signal ends the process.
        unsafe {
            libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len());
            libc::raise(signal);
        }
    }

    pub(super) fn install() {
        for signal in [libc::SIGINT, libc::SIGTERM] {
            // SAFETY: the zeroed structure is a valid one (no flags, an empty mask), and `stop` lives as long as the process.
            unsafe {
                let mut old: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, std::ptr::null(), &mut old);
                // A job started with `nohup` or in the background ignores interrupts; that is to stay so.
                if old.sa_sigaction == libc::SIG_IGN {
                    continue;
                }
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = stop as *const () as usize;
                action.sa_flags = libc::SA_RESETHAND;
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
        }
    }
}
