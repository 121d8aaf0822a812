//! The connection to a relay, as the client of SMTP reads it.
//!
//! Contract: no more than [`MOST`] bytes of the other side are ever read, so that nobody can make a reply of them
//! that fills the memory. What is read at a time ends with a line: so nothing is in the client's own buffer when
//! TLS begins, and words that somebody has put behind the reply to STARTTLS end in the handshake, which fails,
//! instead of in the conversation after it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Most bytes that are read in one conversation; a chain of certificates has some thousands.
pub(super) const MOST: usize = 256 << 10;
/// What is read at a time.
const CHUNK: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Bounded {
    inner: TcpStream,
    /// Read and not handed over.
    kept: Vec<u8>,
    /// What of it was handed over.
    start: usize,
    /// How many more bytes may be read.
    left: usize,
}

impl Bounded {
    pub(super) fn new(inner: TcpStream) -> Self {
        Self {
            inner,
            kept: Vec::new(),
            start: 0,
            left: MOST,
        }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.start == this.kept.len() {
            let mut chunk = [0; CHUNK];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut read))?;
            let read = read.filled();
            let Some(left) = this.left.checked_sub(read.len()) else {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the relay says more than {} KiB", MOST >> 10),
                )));
            };
            this.left = left;
            this.kept.clear();
            this.kept.extend_from_slice(read);
            this.start = 0;
        }
        let kept = &this.kept[this.start..];
        let line = kept
            .iter()
            .position(|octet| *octet == b'\n')
            .map_or(kept.len(), |at| at + 1);
        let length = line.min(buffer.remaining());
        buffer.put_slice(&kept[..length]);
        this.start += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl AsyncTokioStream for Bounded {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.peer_addr()
    }
}
