//! FFmpeg's libavcodec behind a safe face: one coded frame in, 16-bit mono samples out.
//!
//! Purpose: the decoders of phones' speech coders, which are long and well tested elsewhere.
//! Invariants: all `unsafe` of the codecs stands here; libavcodec sees whole frames of at most
//! [`FRAME_BYTES_MAX`], followed by the zeros that it wants to read; what it logs is thrown away.
//! Non-goals: payload formats, frame lengths and silence frames (see `speech`), other media.
//! Sources: libavcodec/avcodec.h ("send/receive encoding and decoding API overview").
//!
//! Built without the feature `libavcodec` there is the same face, and no decoder behind it.

/// Which of libavcodec's decoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AvCodec {
    /// ITU-T G.729 at 8 kbit/s, 10 bytes a frame.
    G729,
    /// ITU-T G.723.1, 24, 20, 4 or 1 bytes a frame.
    G723,
    /// ITU-T G.726, its first code in the highest bits of an octet (as in ATM's AAL2).
    G726Aal2(u8),
    /// ITU-T G.726, its first code in the lowest bits of an octet (as in RFC 3551).
    G726Rfc3551(u8),
    /// GSM 06.10, 33 bytes a frame.
    Gsm,
    /// iLBC of 20 ms, 38 bytes a frame.
    Ilbc20,
    /// iLBC of 30 ms, 50 bytes a frame.
    Ilbc30,
    /// AMR, a frame as in its storage format: a header, then the speech bits.
    Amr,
    /// AMR-WB, likewise.
    AmrWb,
    /// Speex at a sample rate of 8 000, 16 000 or 32 000 Hz.
    Speex(u32),
}

/// Bytes of the longest frame: 200 ms of G.726 at 40 kbit/s, with room for Speex.
pub const FRAME_BYTES_MAX: usize = 1_024;

#[cfg(not(feature = "libavcodec"))]
pub use absent::AvDecoder;
#[cfg(feature = "libavcodec")]
pub use linked::AvDecoder;

#[cfg(not(feature = "libavcodec"))]
mod absent {
    use super::AvCodec;
    use crate::codec::CodecError;

    /// Never made: this build has no libavcodec.
    #[derive(Debug)]
    pub enum AvDecoder {}

    impl AvDecoder {
        /// Whether the decoder is there.
        #[must_use]
        pub const fn is_available(_: AvCodec) -> bool {
            false
        }

        /// A decoder that has heard nothing yet.
        ///
        /// # Errors
        /// Always `Unsupported`.
        pub const fn open(_: AvCodec) -> Result<Self, CodecError> {
            Err(CodecError::Unsupported)
        }

        /// Decodes one frame.
        ///
        /// # Errors
        /// Never called.
        pub fn decode(&mut self, _: &[u8], _: &mut [i16]) -> Result<usize, CodecError> {
            match *self {}
        }
    }
}

#[cfg(feature = "libavcodec")]
#[allow(unsafe_code, reason = "libavcodec is a C library; each block names what it relies on")]
mod linked {
    use super::{AvCodec, FRAME_BYTES_MAX};
    use crate::codec::CodecError;
    use crate::codec::sample::round_to_sample;
    use ffmpeg_sys_next as ffi;
    use std::ffi::c_int;
    use std::ptr::NonNull;
    use std::sync::Once;

    /// [`FRAME_BYTES_MAX`] as libavcodec counts.
    const FRAME_LEN_MAX: c_int = 1_024;
    /// Zeros after a frame, which its bit readers run into.
    const PADDING_BYTES: usize = 64;
    const _: () = assert!(FRAME_BYTES_MAX == 1_024 && ffi::AV_INPUT_BUFFER_PADDING_SIZE <= 64);

    /// One stream's decoder.
    #[derive(Debug)]
    pub struct AvDecoder {
        context: NonNull<ffi::AVCodecContext>,
        packet: NonNull<ffi::AVPacket>,
        frame: NonNull<ffi::AVFrame>,
    }

    // SAFETY: nothing of a context, packet or frame is bound to the thread that made it, none is
    // shared, and libavcodec makes no threads of its own here (`thread_count` is 1).
    unsafe impl Send for AvDecoder {}

    impl AvDecoder {
        /// Whether the libavcodec that is linked has the decoder; distributions leave some out.
        #[must_use]
        pub fn is_available(codec: AvCodec) -> bool {
            // SAFETY: a search in libavcodec's constant table.
            !unsafe { ffi::avcodec_find_decoder(id(codec)) }.is_null()
        }

        /// A decoder that has heard nothing yet.
        ///
        /// # Errors
        /// `Unsupported` if the library has no such decoder or refuses the settings, `Internal`
        /// if it has no memory.
        pub fn open(codec: AvCodec) -> Result<Self, CodecError> {
            static QUIET: Once = Once::new();
            // SAFETY: sets an atomic of libavutil. What it would print comes from the wire.
            QUIET.call_once(|| unsafe { ffi::av_log_set_level(ffi::AV_LOG_QUIET) });
            // SAFETY: as in `is_available`.
            let decoder = unsafe { ffi::avcodec_find_decoder(id(codec)) };
            if decoder.is_null() {
                return Err(CodecError::Unsupported);
            }
            // SAFETY: allocations without arguments, but a decoder that lives as long as the
            // library. Each is owned by `allocated` at once, which frees it whatever happens.
            let (context, packet, frame) = unsafe {
                (
                    ffi::avcodec_alloc_context3(decoder),
                    ffi::av_packet_alloc(),
                    ffi::av_frame_alloc(),
                )
            };
            let allocated = Allocated { context, packet, frame };
            let decoder_of = allocated.open(codec, decoder)?;
            std::mem::forget(allocated);
            Ok(decoder_of)
        }

        /// Decodes one frame, and returns how many samples it wrote to `pcm`.
        ///
        /// # Errors
        /// `BadLength` if the frame is empty or longer than [`FRAME_BYTES_MAX`], `FrameTooLong`
        /// if its samples do not fit `pcm`, `BadPacket` if the decoder refuses it, `Unsupported`
        /// if it is not mono.
        pub fn decode(&mut self, frame: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError> {
            self.send(frame)?;
            let mut written = Ok(0);
            // SAFETY: both were made in `open` and are exclusively borrowed; a negative result
            // (no more of this frame, or an error) leaves `frame` empty.
            while unsafe { ffi::avcodec_receive_frame(self.context.as_ptr(), self.frame.as_ptr()) }
                >= 0
            {
                // All is taken, even when it does not fit: the next frame is refused otherwise.
                written = written.and_then(|written: usize| {
                    let rest = pcm.get_mut(written..).ok_or(CodecError::FrameTooLong)?;
                    Ok(written.saturating_add(self.take_samples(rest)?))
                });
            }
            if written == Ok(0) { Err(CodecError::BadPacket) } else { written }
        }

        fn send(&mut self, frame: &[u8]) -> Result<(), CodecError> {
            let len = c_int::try_from(frame.len()).map_err(|_| CodecError::BadLength)?;
            if len == 0 || len > FRAME_LEN_MAX {
                return Err(CodecError::BadLength);
            }
            let packet = self.packet.as_ptr();
            // SAFETY: the packet was made in `open` with a buffer of FRAME_BYTES_MAX bytes and
            // PADDING_BYTES of its own after them (av_new_packet), which no-one else may write.
            // A decoder that still refers to it makes `av_packet_make_writable` copy what `size`
            // says: so that is the whole buffer, before. The frame fits, by the check above, and
            // cannot overlap with it.
            unsafe {
                (*packet).size = FRAME_LEN_MAX;
                if ffi::av_packet_make_writable(packet) < 0 || (*packet).data.is_null() {
                    return Err(CodecError::Internal);
                }
                std::ptr::copy_nonoverlapping(frame.as_ptr(), (*packet).data, frame.len());
                std::ptr::write_bytes((*packet).data.add(frame.len()), 0, PADDING_BYTES);
                (*packet).size = len;
                let sent = ffi::avcodec_send_packet(self.context.as_ptr(), packet);
                if sent < 0 { Err(CodecError::BadPacket) } else { Ok(()) }
            }
        }

        fn take_samples(&mut self, pcm: &mut [i16]) -> Result<usize, CodecError> {
            use ffi::AVSampleFormat::{
                AV_SAMPLE_FMT_FLT, AV_SAMPLE_FMT_FLTP, AV_SAMPLE_FMT_S16, AV_SAMPLE_FMT_S16P,
            };
            // SAFETY: `avcodec_receive_frame` just filled the frame.
            let frame = unsafe { self.frame.as_ref() };
            let data = frame.data.first().copied().unwrap_or(std::ptr::null_mut());
            let samples = usize::try_from(frame.nb_samples).unwrap_or(0);
            if frame.ch_layout.nb_channels != 1 || data.is_null() {
                return Err(CodecError::Unsupported);
            }
            let pcm = pcm.get_mut(..samples).ok_or(CodecError::FrameTooLong)?;
            let is = |format: ffi::AVSampleFormat| frame.format == format as c_int; // tidy: lossless because it is a C enum
            if is(AV_SAMPLE_FMT_S16) || is(AV_SAMPLE_FMT_S16P) {
                // SAFETY: of a mono frame of this format the first plane holds `nb_samples`
                // samples of 16 bits, aligned; it lives until the next call with this frame.
                pcm.copy_from_slice(unsafe { std::slice::from_raw_parts(data.cast(), samples) });
            } else if is(AV_SAMPLE_FMT_FLT) || is(AV_SAMPLE_FMT_FLTP) {
                // SAFETY: the same, with samples of 32 bits.
                let floats: &[f32] = unsafe { std::slice::from_raw_parts(data.cast(), samples) };
                for (sample, value) in pcm.iter_mut().zip(floats) {
                    *sample = round_to_sample(value * 32_768.0);
                }
            } else {
                return Err(CodecError::Unsupported);
            }
            Ok(samples)
        }
    }

    impl Drop for AvDecoder {
        fn drop(&mut self) {
            drop(Allocated {
                context: self.context.as_ptr(),
                packet: self.packet.as_ptr(),
                frame: self.frame.as_ptr(),
            });
        }
    }

    /// What libavcodec allocated, freed on drop; null where it had no memory.
    struct Allocated {
        context: *mut ffi::AVCodecContext,
        packet: *mut ffi::AVPacket,
        frame: *mut ffi::AVFrame,
    }

    impl Allocated {
        /// Configures and opens; the result owns what `self` holds.
        fn open(
            &self,
            codec: AvCodec,
            decoder: *const ffi::AVCodec,
        ) -> Result<AvDecoder, CodecError> {
            let none = CodecError::Internal;
            let context = NonNull::new(self.context).ok_or(none)?;
            let packet = NonNull::new(self.packet).ok_or(none)?;
            let frame = NonNull::new(self.frame).ok_or(none)?;
            // SAFETY: the three are allocated, and nobody else's. The fields are those that
            // avcodec.h lets users set before `avcodec_open2`; the packet's buffer has the
            // padding that `av_new_packet` promises, PADDING_BYTES at least.
            unsafe {
                let fields = &mut *context.as_ptr();
                ffi::av_channel_layout_default(&raw mut fields.ch_layout, 1);
                fields.sample_rate = sample_rate(codec);
                fields.thread_count = 1;
                match codec {
                    AvCodec::G726Aal2(bits) | AvCodec::G726Rfc3551(bits) => {
                        fields.bits_per_coded_sample = c_int::from(bits);
                    }
                    AvCodec::Ilbc20 => fields.block_align = 38,
                    AvCodec::Ilbc30 => fields.block_align = 50,
                    _ => {}
                }
                if ffi::avcodec_open2(context.as_ptr(), decoder, std::ptr::null_mut()) < 0 {
                    return Err(CodecError::Unsupported);
                }
                let len = FRAME_LEN_MAX;
                if ffi::av_new_packet(packet.as_ptr(), len) < 0 {
                    return Err(CodecError::Internal);
                }
            }
            Ok(AvDecoder { context, packet, frame })
        }
    }

    impl Drop for Allocated {
        fn drop(&mut self) {
            // SAFETY: each pointer is null, which these take, or was allocated by its
            // counterpart and is not used again.
            unsafe {
                ffi::avcodec_free_context(&raw mut self.context);
                ffi::av_packet_free(&raw mut self.packet);
                ffi::av_frame_free(&raw mut self.frame);
            }
        }
    }

    const fn id(codec: AvCodec) -> ffi::AVCodecID {
        match codec {
            AvCodec::G729 => ffi::AVCodecID::AV_CODEC_ID_G729,
            AvCodec::G723 => ffi::AVCodecID::AV_CODEC_ID_G723_1,
            AvCodec::G726Aal2(_) => ffi::AVCodecID::AV_CODEC_ID_ADPCM_G726,
            AvCodec::G726Rfc3551(_) => ffi::AVCodecID::AV_CODEC_ID_ADPCM_G726LE,
            AvCodec::Gsm => ffi::AVCodecID::AV_CODEC_ID_GSM,
            AvCodec::Ilbc20 | AvCodec::Ilbc30 => ffi::AVCodecID::AV_CODEC_ID_ILBC,
            AvCodec::Amr => ffi::AVCodecID::AV_CODEC_ID_AMR_NB,
            AvCodec::AmrWb => ffi::AVCodecID::AV_CODEC_ID_AMR_WB,
            AvCodec::Speex(_) => ffi::AVCodecID::AV_CODEC_ID_SPEEX,
        }
    }

    fn sample_rate(codec: AvCodec) -> c_int {
        match codec {
            AvCodec::AmrWb => 16_000,
            AvCodec::Speex(rate_hz) => c_int::try_from(rate_hz).unwrap_or(8_000),
            _ => 8_000,
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        const EVERY: [AvCodec; 14] = [
            AvCodec::G729,
            AvCodec::G723,
            AvCodec::G726Aal2(2),
            AvCodec::G726Aal2(5),
            AvCodec::G726Rfc3551(3),
            AvCodec::G726Rfc3551(4),
            AvCodec::Gsm,
            AvCodec::Ilbc20,
            AvCodec::Ilbc30,
            AvCodec::Amr,
            AvCodec::AmrWb,
            AvCodec::Speex(8_000),
            AvCodec::Speex(16_000),
            AvCodec::Speex(32_000),
        ];

        #[test]
        fn every_decoder_opens_and_none_minds_what_it_is_given() {
            let mut pcm = vec![0; 9_600];
            for codec in EVERY {
                assert!(AvDecoder::is_available(codec), "{codec:?}");
                let mut decoder = AvDecoder::open(codec).expect("opened");
                let mut state = 1u32;
                for length in 0..FRAME_BYTES_MAX + 9 {
                    let frame: Vec<u8> = (0..length)
                        .map(|_| {
                            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                            (state >> 24) as u8
                        })
                        .collect();
                    if let Ok(samples) = decoder.decode(&frame, &mut pcm) {
                        assert!((1..=pcm.len()).contains(&samples), "{codec:?}: {samples}");
                    }
                }
            }
        }

        #[test]
        fn what_does_not_fit_is_refused_and_the_next_frame_decodes() {
            let mut decoder = AvDecoder::open(AvCodec::Gsm).expect("opened");
            let mut frame = [0; 33];
            frame[0] = 0xd0;
            assert_eq!(decoder.decode(&frame, &mut [0; 159]), Err(CodecError::FrameTooLong));
            assert_eq!(decoder.decode(&[], &mut [0; 160]), Err(CodecError::BadLength));
            assert_eq!(decoder.decode(&[0; 1_025], &mut [0; 160]), Err(CodecError::BadLength));
            assert_eq!(decoder.decode(&frame, &mut [0; 160]), Ok(160));
        }

        #[test]
        fn a_decoder_may_change_its_thread() {
            let mut decoder = AvDecoder::open(AvCodec::G729).expect("opened");
            let there = std::thread::scope(|scope| {
                scope.spawn(|| decoder.decode(&[0x55; 10], &mut [0; 80])).join()
            });
            assert_eq!(there.expect("joined"), Ok(80));
        }
    }
}
