//! Memory that many share: a limit, what each holds, and who has to give way
//! when it does not suffice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory that many share.
#[derive(Debug)]
pub struct MemoryPool {
    /// The limit for all together, in bytes. It may be passed for a while.
    limit: AtomicU64,
    /// Bytes that all together hold.
    used: AtomicU64,
    /// Number of those that hold anything.
    holders: AtomicU64,
}

impl MemoryPool {
    /// A pool of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicU64::new(limit),
            used: AtomicU64::new(0),
            holders: AtomicU64::new(0),
        })
    }

    /// Changes the limit.
    pub fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// The limit for all together, in bytes. It may be passed for a while.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Bytes that all together hold.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// True if all together hold more than the limit.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.used() > self.limit()
    }

    /// Bytes that each may hold while there is not enough for all. Where the
    /// pool is exhausted, somebody holds more than that.
    #[must_use]
    pub fn share(&self) -> u64 {
        self.limit() / self.holders.load(Ordering::Relaxed).max(1)
    }
}

/// The part of one of them; nothing any more when it is dropped.
#[derive(Debug)]
pub(crate) struct Holding {
    pool: Arc<MemoryPool>,
    bytes: AtomicU64,
    /// True if its holder has another part, by which it is counted.
    is_additional: bool,
}

impl Holding {
    /// A share of `pool` that holds nothing yet.
    #[must_use]
    pub(crate) fn new(pool: Arc<MemoryPool>) -> Self {
        Self {
            pool,
            bytes: AtomicU64::new(0),
            is_additional: false,
        }
    }

    /// The same for a holder that has another part already: the share of each stays as it
    /// is.
    #[must_use]
    pub(crate) fn additional(pool: Arc<MemoryPool>) -> Self {
        let mut holding = Self::new(pool);
        holding.is_additional = true;
        holding
    }

    /// It holds so many bytes from here on.
    pub(crate) fn set(&self, bytes: u64) {
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        let pool = &*self.pool;
        if bytes >= before {
            pool.used.fetch_add(bytes - before, Ordering::Relaxed);
        } else {
            pool.used.fetch_sub(before - bytes, Ordering::Relaxed);
        }
        match (before, bytes) {
            _ if self.is_additional => return,
            (0, 1..) => pool.holders.fetch_add(1, Ordering::Relaxed),
            (1.., 0) => pool.holders.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
    }

    /// The bytes that it holds.
    #[must_use]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The pool that it has a share of.
    #[must_use]
    pub(crate) fn pool(&self) -> &MemoryPool {
        &self.pool
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_knows_what_its_holders_have_and_what_each_may() {
        let pool = MemoryPool::new(100);
        let first = Holding::new(pool.clone());
        let second = Holding::new(pool.clone());
        assert_eq!((pool.used(), pool.share()), (0, 100));
        first.set(60);
        assert_eq!((pool.used(), pool.share()), (60, 100));
        second.set(50);
        assert_eq!((pool.used(), pool.share()), (110, 50));
        assert!(pool.is_exhausted());
        first.set(10);
        assert!(!pool.is_exhausted());
        drop(second);
        assert_eq!((pool.used(), pool.share()), (10, 100));
        first.set(0);
        assert_eq!((pool.used(), pool.share()), (0, 100));
        first.set(10);
        let additional = Holding::additional(pool.clone());
        additional.set(60);
        assert_eq!((pool.used(), pool.share()), (70, 100));
        drop(additional);
        assert_eq!((pool.used(), pool.share()), (10, 100));
    }
}
