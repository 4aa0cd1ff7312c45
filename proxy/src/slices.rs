use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Writes some of these. One alone, as most writes are, goes by `send`, which costs the kernel less than `writev` does.
pub(crate) fn poll_write_slices<IO: AsyncWrite>(
    io: Pin<&mut IO>,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match slices {
        [only] => io.poll_write(cx, only),
        _ => io.poll_write_vectored(cx, slices),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the writes of each kind.
    #[derive(Default)]
    struct Counts(u32, u32);

    impl AsyncWrite for Counts {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0 += 1;
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.1 += 1;
            Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn one_slice_is_no_vector() {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let mut counts = Counts::default();
        for slices in [[b"one".as_slice()].as_slice(), &[b"one", b"two"], &[]] {
            let slices = slices.iter().map(|bytes| IoSlice::new(bytes)).collect::<Vec<_>>();
            let all = slices.iter().map(|slice| slice.len()).sum::<usize>();
            assert!(
                matches!(poll_write_slices(Pin::new(&mut counts), cx, &slices), Poll::Ready(Ok(wrote)) if wrote == all)
            );
        }
        assert_eq!((counts.0, counts.1), (1, 2));
    }
}
