//! Ctrl-C and friends: the work is asked to stop, cleans up, and the exit code tells.
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::core::{Cancel, Error, Result};

static RECEIVED: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

#[cfg(unix)]
const SIGNALS: [i32; 3] = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];

/// A flag that signals set.
pub fn cancel_on_signal() -> Result<Cancel> {
    let cancel = Cancel::new();
    let received = RECEIVED.get_or_init(Arc::default);
    for signal in SIGNALS {
        let value = usize::try_from(signal).unwrap_or_default();
        signal_hook::flag::register_usize(signal, Arc::clone(received), value)
            .and_then(|_| signal_hook::flag::register(signal, cancel.flag()))
            .map_err(|e| Error::failed(format!("signals cannot be caught: {e}")).because(e))?;
    }
    Ok(cancel)
}

/// The signal that asked to stop, if one did.
pub fn received() -> Option<u8> {
    let signal = RECEIVED.get()?.load(Ordering::Relaxed);
    u8::try_from(signal).ok().filter(|s| *s != 0)
}
