//! Threads: trials in slots, conversions in the background. Everything heavy happens here, within a memory budget.
//!
//! Memory is bounded by construction rather than by a queue: each worker holds one slab, a slab's size follows from
//! the tensor's shape, and there are never more workers than the budget has room for.
pub mod compare;
pub mod convert;
pub mod dynamic;
pub mod output;
pub mod trials;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::core::{Error, Result, units};

/// What may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Worker threads.
    pub threads: usize,
    /// Bytes of the working set.
    pub memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { threads: std::thread::available_parallelism().map_or(1, usize::from), memory: 1 << 30 }
    }
}

/// Bytes that a worker needs for each element of a slab: as stored (8 at most), as f32 twice, as codes and packed.
const BYTES_PER_ELEMENT: u64 = 8 + 4 + 4 + 2;

impl Limits {
    /// As many workers as there is room for, when a slab has so many elements at most, each worker needs `extra` bytes
    /// besides, and `fixed` bytes are needed once.
    pub fn workers(&self, slab_elements: u64, extra: u64, fixed: u64) -> Result<usize> {
        let each = slab_elements.saturating_mul(BYTES_PER_ELEMENT).saturating_add(extra).max(1);
        let room = self.memory.saturating_sub(fixed) / each;
        if room == 0 {
            return Err(Error::failed(format!(
                "--memory {}: {} are needed for this model; give at least that",
                units::size(self.memory),
                units::size(each.saturating_add(fixed))
            )));
        }
        Ok(self.threads.clamp(1, room.min(1 << 16) as usize))
    }
}

/// A pool of its own, so that no library's work waits behind ours or the other way round.
pub fn pool(threads: usize, name: &'static str) -> Result<ThreadPool> {
    started(threads, name, |_| ())
}

/// A pool whose threads give way to the rest of the program: a key is answered before what it asks for is measured.
pub fn quiet_pool(threads: usize, name: &'static str) -> Result<ThreadPool> {
    started(threads, name, |_| give_way())
}

/// A pool whose threads have the processor when nobody else wants it: a key is answered at once, however many trials run.
pub fn idle_pool(threads: usize, name: &'static str) -> Result<ThreadPool> {
    started(threads, name, |_| stand_back())
}

fn started(threads: usize, name: &'static str, begin: fn(usize)) -> Result<ThreadPool> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(move |i| format!("{name}-{i}"))
        .start_handler(begin)
        .build()
        .map_err(|e| Error::failed(format!("cannot start {threads} threads: {e}")).because(e))
}

/// Makes the calling thread less urgent. Only Linux lets a thread say so by itself; elsewhere the system's own scheduling
/// prefers who waits for input.
fn give_way() {
    #[cfg(target_os = "linux")]
    {
        // One that may not is as urgent as before.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 10);
    }
}

/// Makes the calling thread the least urgent of all. It may hold no lock that others wait for: on a busy machine it comes to
/// nothing for long.
fn stand_back() {
    #[cfg(any(target_os = "linux", target_os = "macos", windows))]
    {
        use thread_priority::ThreadPriority;
        #[cfg(target_os = "linux")]
        let done = {
            use thread_priority::unix::{NormalThreadSchedulePolicy, ThreadSchedulePolicy};
            use thread_priority::{set_thread_priority_and_policy, thread_native_id};
            let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
            set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle)
        };
        #[cfg(not(target_os = "linux"))]
        let done = ThreadPriority::Min.set_for_current();
        if let Err(e) = done {
            log::debug!("a thread stays as urgent as it was: {e}");
        }
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    format!("a worker stopped: {}", text.unwrap_or_else(|| "no message".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_fit_into_the_memory() {
        fn check(threads: usize, memory: u64, slab: u64, fixed: u64, workers: Option<usize>) {
            assert_eq!(Limits { threads, memory }.workers(slab, 0, fixed).ok(), workers);
        }
        check(8, 1 << 30, 1 << 18, 0, Some(8));
        check(64, 64 << 20, 1 << 18, 0, Some(14));
        check(2, 1 << 20, 1 << 18, 0, None);
        check(2, 1 << 30, 1 << 18, 1 << 30, None);
    }
}
