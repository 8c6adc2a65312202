//! Smaller renditions of pictures, for MQTT. A picture of several megabytes would delay events on a slow line,
//! and many brokers refuse messages of that size. The original stays on disk, where its link leads.

use std::{
    collections::VecDeque,
    io::Cursor,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits, codecs::jpeg::JpegEncoder};

use crate::domain::{
    camera::ImageType,
    ids::Seq,
    image::{Picture, detect_format},
};

/// Maximum length of the long side, in pixels.
const MAX_SIDE: u32 = 1280;
/// Smallest length of the long side that is tried, in pixels.
const MIN_SIDE: u32 = 160;
/// The JPEG qualities that are tried at each size.
const QUALITIES: [u8; 3] = [85, 70, 50];

/// Maximum memory for decoding one picture. Enough for 20 megapixels.
const MAX_DECODED_BYTES: u64 = 64 * 1024 * 1024;
/// Maximum width and height of a picture that is decoded, in pixels.
const MAX_DIMENSION: u32 = 16 * 1024;

/// Maximum total size of the renditions in memory. After a reconnect, all pictures are published again, and are
/// not decoded again as far as they are in memory.
const MAX_CACHED_BYTES: usize = 4 * 1024 * 1024;

/// Returns a JPEG of at most `max_bytes`, with at most [`MAX_SIDE`] pixels on its long side. Returns `None` if the
/// picture cannot be decoded within the limits, or if no rendition is small enough. Blocks for up to some hundred
/// milliseconds.
pub fn render(image: &[u8], max_bytes: usize) -> Option<Bytes> {
    let mut decoded = decode(image, detect_format(image)?)?;
    let mut side = MAX_SIDE;
    while side >= MIN_SIDE {
        if decoded.width().max(decoded.height()) > side {
            decoded = decoded.thumbnail(side, side);
        }
        for quality in QUALITIES {
            let mut jpeg = Vec::new();
            decoded.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, quality)).ok()?;
            if jpeg.len() <= max_bytes {
                return Some(jpeg.into());
            }
        }
        side = side.min(decoded.width().max(decoded.height())) / 2;
    }
    None
}

/// Decodes a picture, and rotates it as its metadata demands, which the rendition does not contain.
fn decode(image: &[u8], format: ImageType) -> Option<DynamicImage> {
    let format = match format {
        ImageType::Jpeg => ImageFormat::Jpeg,
        ImageType::Png => ImageFormat::Png,
        ImageType::WebP => ImageFormat::WebP,
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_DIMENSION);
    limits.max_image_height = Some(MAX_DIMENSION);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(image), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().ok()?;
    if decoder.total_bytes() > MAX_DECODED_BYTES {
        return None;
    }
    let orientation = decoder.orientation().ok()?;
    let mut upright = DynamicImage::from_decoder(decoder).ok()?;
    upright.apply_orientation(orientation);
    // JPEG has neither transparency nor 16 bits.
    Some(upright.into_rgb8().into())
}

/// The newest renditions, in memory.
#[derive(Debug)]
pub struct Renditions {
    /// Maximum total size.
    max_bytes: usize,
    newest: Mutex<VecDeque<(Seq, Bytes)>>,
}

impl Default for Renditions {
    fn default() -> Self {
        Self { max_bytes: MAX_CACHED_BYTES, newest: Mutex::default() }
    }
}

impl Renditions {
    /// Returns the picture if it has at most `max_bytes`, or its rendition. If there is none, returns the picture
    /// as it is. Blocks. Only one picture is decoded at a time.
    pub fn of(&self, seq: Seq, picture: Picture, max_bytes: usize) -> Picture {
        if picture.image.len() <= max_bytes {
            return picture;
        }
        let mut cached = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = cached.iter().find(|(cached, _)| *cached == seq).map(|(_, image)| image.clone());
        if let Some(image) = known {
            return Picture { format: ImageType::Jpeg, image };
        }
        let Some(image) = render(&picture.image, max_bytes) else {
            tracing::debug!(%seq, "there is no rendition of a picture; publishing the original");
            return picture;
        };
        cached.push_back((seq, image.clone()));
        while cached.iter().map(|(_, image)| image.len()).sum::<usize>() > self.max_bytes {
            cached.pop_front();
        }
        Picture { format: ImageType::Jpeg, image }
    }

    /// Forgets the rendition of a picture that is being replaced.
    pub fn forget(&self, seq: Seq) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).retain(|(cached, _)| *cached != seq);
    }
}

#[cfg(test)]
mod tests {
    use image::{ImageBuffer, Rgb, RgbImage};

    use super::*;
    use crate::domain::image::{check, samples};

    /// Noise, which no format compresses well.
    fn noise(width: u32, height: u32) -> RgbImage {
        let mut state = 1_u32;
        ImageBuffer::from_fn(width, height, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [a, b, c, _] = state.to_be_bytes();
            Rgb([a, b, c])
        })
    }

    fn encoded(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_rendition_is_a_small_jpeg_with_the_same_proportions() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let jpeg = render(&encoded(&noise(1344, 756), format), 256 * 1024).unwrap();
            assert_eq!(check(&jpeg), Ok(ImageType::Jpeg));
            let rendition = image::load_from_memory(&jpeg).unwrap();
            let (width, height) = (rendition.width(), rendition.height());
            assert!(jpeg.len() <= 256 * 1024 && width <= MAX_SIDE, "{} bytes, {width}", jpeg.len());
            assert_eq!((width * 9).div_ceil(16), height);
        }
    }

    #[test]
    fn what_cannot_be_decoded_within_the_limits_has_no_rendition() {
        assert_eq!(render(samples::PNG, 10), None, "it is damaged");
        assert_eq!(
            render(&encoded(&noise(300, 200), ImageFormat::Png), 1000),
            None,
            "no size is small enough"
        );
        // A PNG that declares far more pixels than it contains.
        let mut bomb = encoded(&noise(8, 8), ImageFormat::Png);
        bomb[16..24].copy_from_slice(&[0, 0, 0x3f, 0xff, 0, 0, 0x3f, 0xff]);
        assert_eq!(render(&bomb, 1024 * 1024), None);
    }

    #[test]
    fn renditions_are_kept_in_limited_memory_until_their_picture_is_replaced() {
        let renditions = Renditions { max_bytes: 20_000, ..Renditions::default() };
        let picture = |side| {
            let image = encoded(&noise(side, side), ImageFormat::Png).into();
            Picture { format: ImageType::Png, image }
        };
        let small = picture(8);
        assert_eq!(renditions.of(Seq(1), small.clone(), 10_000), small);
        let first = renditions.of(Seq(1), picture(100), 10_000);
        assert_eq!((first.format, first.image.len() <= 10_000), (ImageType::Jpeg, true));
        assert_eq!(renditions.of(Seq(1), picture(120), 10_000), first, "it is in memory");
        renditions.forget(Seq(1));
        assert_ne!(renditions.of(Seq(1), picture(120), 10_000), first);
        for seq in 2..10 {
            renditions.of(Seq(seq), picture(100), 10_000);
        }
        let newest = renditions.newest.lock().unwrap();
        assert!(newest.iter().map(|(_, image)| image.len()).sum::<usize>() <= 20_000);
        assert!(newest.iter().all(|(seq, _)| *seq > Seq(1)) && newest.back().unwrap().0 == Seq(9));
    }
}
