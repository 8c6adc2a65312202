//! Smaller renditions of pictures, for MQTT. A picture of several megabytes would delay events on a slow line,
//! and many brokers refuse messages of that size. The original stays on disk, where its link leads.

use std::{
    collections::VecDeque,
    io::Cursor,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits, codecs::jpeg::JpegEncoder};

use crate::domain::{
    camera::ImageType,
    ids::Seq,
    image::{Picture, detect_format},
    numbers::saturate,
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

/// Decodes a picture, and applies the rotation in its metadata, because the rendition has no metadata.
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
    /// Maximum size of a picture that is published as it is, and of a rendition.
    max_picture_bytes: usize,
    /// Maximum total size.
    max_bytes: usize,
    newest: Mutex<VecDeque<(Seq, Bytes)>>,
}

impl Renditions {
    /// Creates renditions of at most this size, in bytes, for larger pictures.
    pub fn new(max_picture_bytes: usize) -> Self {
        Self { max_picture_bytes, max_bytes: MAX_CACHED_BYTES, newest: Mutex::default() }
    }

    /// Returns the picture of this size that `load` reads if it is small, or its rendition. If there is none, returns
    /// the picture as it is. Blocks. Only one picture is decoded at a time.
    pub fn of<E>(
        &self,
        seq: Seq,
        size: u64,
        load: impl Fn() -> Result<Option<Picture>, E>,
    ) -> Result<Option<Picture>, E> {
        let is_small = |picture: &Picture| picture.image.len() <= self.max_picture_bytes;
        // A small picture does not wait for a large one, and a rendition in memory needs no file.
        if size <= saturate(self.max_picture_bytes)
            && let Some(picture) = load()?.filter(is_small)
        {
            return Ok(Some(picture));
        }
        let mut newest = self.newest();
        let known = newest.iter().find(|(known, _)| *known == seq).map(|(_, image)| image.clone());
        if let Some(image) = known {
            return Ok(Some(Picture { format: ImageType::Jpeg, image }));
        }
        let Some(picture) = load()? else { return Ok(None) };
        if is_small(&picture) {
            return Ok(Some(picture));
        }
        let Some(image) = render(&picture.image, self.max_picture_bytes) else {
            tracing::debug!(%seq, "there is no rendition of a picture; publishing the original");
            return Ok(Some(picture));
        };
        newest.push_back((seq, image.clone()));
        while newest.iter().map(|(_, image)| image.len()).sum::<usize>() > self.max_bytes {
            newest.pop_front();
        }
        Ok(Some(Picture { format: ImageType::Jpeg, image }))
    }

    /// Forgets the rendition of a picture that was replaced. Blocks while a picture is being decoded.
    pub fn forget(&self, seq: Seq) {
        self.newest().retain(|(known, _)| *known != seq);
    }

    fn newest(&self) -> MutexGuard<'_, VecDeque<(Seq, Bytes)>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
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
        let renditions = Renditions { max_bytes: 20_000, ..Renditions::new(10_000) };
        let picture = |side| {
            let image = encoded(&noise(side, side), ImageFormat::Png).into();
            Picture { format: ImageType::Png, image }
        };
        let of = |seq, picture: Picture| {
            let load = || Ok::<_, std::convert::Infallible>(Some(picture.clone()));
            renditions.of(Seq(seq), saturate(picture.image.len()), load).unwrap().unwrap()
        };
        let small = picture(8);
        assert_eq!(of(1, small.clone()), small);
        let first = of(1, picture(100));
        assert_eq!((first.format, first.image.len() <= 10_000), (ImageType::Jpeg, true));
        assert_eq!(of(1, picture(120)), first, "it is in memory");
        renditions.forget(Seq(1));
        assert_ne!(of(1, picture(120)), first);
        for seq in 2..10 {
            of(seq, picture(100));
        }
        let newest = renditions.newest();
        assert!(newest.iter().map(|(_, image)| image.len()).sum::<usize>() <= 20_000);
        assert!(newest.iter().all(|(seq, _)| *seq > Seq(1)) && newest.back().unwrap().0 == Seq(9));
    }
}
