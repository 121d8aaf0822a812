//! Kernel tables in our own memory.
//!
//! Contract: a drain is a scan of memory, without a system call per entry. The kernel writes to
//! this memory at any time, so nothing is borrowed from it but parts that the caller knows to be
//! silent: the half that no program writes any more, after the flip has returned.
#![expect(
    unsafe_code,
    reason = "maps memory that the kernel writes, and views it as the types of smtp-common"
)]

use std::marker::PhantomData;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::Context as _;
use aya::maps::MapData;
use memmap2::{MmapMut, MmapOptions};
use smtp_common::flow::{FlowSet, Header};
use smtp_common::table::Set;

mod sealed {
    /// Types that any bytes are a value of, and that an array map holds without gaps.
    pub trait Plain: Copy {}
}
use sealed::Plain;

// Integers in repr(C) without padding: smtp-common asserts their sizes.
impl Plain for Set {}
impl Plain for FlowSet {}
impl Plain for Header {}

/// An array map in memory.
pub struct MappedArray<T> {
    memory: MmapMut,
    entries: usize,
    entry: PhantomData<T>,
}

impl<T: Plain> MappedArray<T> {
    /// Maps the whole of an array map that was made with `BPF_F_MMAPABLE`.
    pub fn new(map: &MapData) -> anyhow::Result<Self> {
        let info = map
            .info()
            .context("cannot ask the kernel for a map's shape")?;
        let name = info.name_as_str().unwrap_or("map").to_owned();
        let value_size = info.value_size() as usize;
        anyhow::ensure!(
            value_size == size_of::<T>() && value_size.is_multiple_of(8),
            "map {name} has values of {value_size} bytes, not of {}",
            size_of::<T>()
        );
        let entries = info.max_entries() as usize;
        // SAFETY: the file behind the mapping is a map of the kernel's, whose size is fixed, so an
        // access inside it never faults. That others write to it meanwhile is the contract of this
        // module: see `silent`.
        let memory = unsafe {
            MmapOptions::new()
                .len(entries * size_of::<T>())
                .map_mut(map.fd().as_fd().as_raw_fd())
        }
        .with_context(|| format!("cannot map {entries} entries of {name} into memory"))?;
        Ok(Self {
            memory,
            entries,
            entry: PhantomData,
        })
    }

    /// Entries `from..from + count`.
    ///
    /// # Safety
    ///
    /// No program writes to them while the borrow lasts: they belong to the silent half, and the
    /// flip that silenced it has returned; or no program is attached yet.
    ///
    /// # Panics
    ///
    /// If the range lies outside the map.
    pub unsafe fn silent(&mut self, from: usize, count: usize) -> &mut [T] {
        assert!(from + count <= self.entries, "a range inside the map");
        // SAFETY: the range was checked. The mapping starts at a page, entries have no gaps and
        // are multiples of 8 bytes, so every entry is aligned. Any bytes are a `Plain`. The caller
        // promises that nobody else writes, and `&mut self` that nobody here looks.
        unsafe {
            std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast::<T>().add(from), count)
        }
    }
}

/// Copies of the whole values in these bytes, whatever they are.
pub fn values<T: Plain>(bytes: &[u8]) -> Vec<T> {
    bytes
        .chunks_exact(size_of::<T>())
        // SAFETY: the chunk has as many bytes as a `T`, and any bytes are a `Plain`. It need not be
        // aligned.
        .map(|chunk| unsafe { chunk.as_ptr().cast::<T>().read_unaligned() })
        .collect()
}
