//! Smaller renditions of pictures. For MQTT: a picture of several megabytes would delay events on a slow line, and
//! many brokers refuse messages of that size. For lists of events and cameras: they show dozens of pictures at a time.
//! The original stays on disk, where its link leads.

use std::{
    collections::VecDeque,
    io::Cursor,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use image::{
    DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, codecs::jpeg::JpegEncoder,
    metadata::Orientation,
};

use crate::domain::{
    camera::ImageType,
    ids::Seq,
    image::{Picture, RenditionWidth, detect_format},
    numbers::saturate,
};

/// Maximum length of the long side, in pixels.
const MAX_SIDE: u32 = 1280;
/// Smallest length of the long side that is tried, in pixels.
const MIN_SIDE: u32 = 160;
/// The JPEG qualities that are tried at each size.
const QUALITIES: [u8; 3] = [85, 70, 50];
/// The JPEG quality of a rendition of a given width.
const WIDTH_QUALITY: u8 = 80;

/// Maximum memory for the pixels of a decoded picture, in bytes.
const MAX_DECODED_BYTES: u64 = 64 * 1024 * 1024;
/// Maximum number of pixels of a picture that is decoded: somewhat more than 20 megapixels. Decoders need a multiple of
/// their number, even for gray pixels of one byte.
const MAX_PIXELS: u64 = MAX_DECODED_BYTES / 3;
/// Maximum width and height of a picture that is decoded, in pixels.
const MAX_DIMENSION: u32 = 16 * 1024;

/// Maximum total size of the renditions in memory. After a reconnect, all pictures are published again, and are
/// not decoded again as far as they are in memory.
const MAX_CACHED_BYTES: usize = 4 * 1024 * 1024;

/// Returns a JPEG of at most `max_bytes`, with at most [`MAX_SIDE`] pixels on its long side. Returns `None` if the
/// picture cannot be decoded within the limits, or if no rendition is small enough. Blocks for up to some hundred
/// milliseconds.
pub fn render(image: &[u8], max_bytes: usize) -> Option<Bytes> {
    let Decoded { mut picture, orientation } = decode(image, |_| true)?;
    let mut side = MAX_SIDE;
    while side >= MIN_SIDE {
        if picture.width().max(picture.height()) > side {
            picture = picture.thumbnail(side, side);
        }
        let small = upright(picture.clone(), orientation);
        for quality in QUALITIES {
            let mut jpeg = Vec::new();
            small.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, quality)).ok()?;
            if jpeg.len() <= max_bytes {
                return Some(jpeg.into());
            }
        }
        side = side.min(picture.width().max(picture.height())) / 2;
    }
    None
}

/// Returns a JPEG of this width. Returns `None` if the picture is not wider, if the JPEG would not have fewer bytes, or
/// if the picture cannot be decoded within the limits. Blocks for up to some hundred milliseconds.
pub fn render_width(image: &[u8], width: RenditionWidth) -> Option<Bytes> {
    let Decoded { picture, orientation } = decode(image, |picture_width| picture_width > width.pixels())?;
    let small = if is_quarter_turn(orientation) {
        picture.thumbnail(u32::MAX, width.pixels())
    } else {
        picture.thumbnail(width.pixels(), u32::MAX)
    };
    let mut jpeg = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, WIDTH_QUALITY);
    upright(small, orientation).write_with_encoder(encoder).ok()?;
    (jpeg.len() < image.len()).then(|| jpeg.into())
}

/// A picture as it is stored, and how to turn it.
struct Decoded {
    picture: DynamicImage,
    orientation: Orientation,
}

/// Decodes a picture. `is_wanted` gets the width of the upright picture, before it is decoded.
fn decode(image: &[u8], is_wanted: impl Fn(u32) -> bool) -> Option<Decoded> {
    let mut decoder = decoder(image)?;
    let orientation = decoder.orientation().ok()?;
    let (width, height) = decoder.dimensions();
    if !is_wanted(if is_quarter_turn(orientation) { height } else { width }) {
        return None;
    }
    Some(Decoded { picture: DynamicImage::from_decoder(decoder).ok()?, orientation })
}

/// Reads the header of a picture. Returns `None` if it is damaged, or if decoding the picture would exceed the limits.
fn decoder(image: &[u8]) -> Option<impl ImageDecoder + '_> {
    let format = match detect_format(image)? {
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
    let decoder = reader.into_decoder().ok()?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    (pixels <= MAX_PIXELS && decoder.total_bytes() <= MAX_DECODED_BYTES).then_some(decoder)
}

/// Applies the rotation in a picture's metadata, because its rendition has no metadata. Only for small pictures: each
/// step needs the memory of another one.
fn upright(mut small: DynamicImage, orientation: Orientation) -> DynamicImage {
    small.apply_orientation(orientation);
    // JPEG has neither transparency nor 16 bits.
    small.into_rgb8().into()
}

fn is_quarter_turn(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH)
}

/// The newest renditions for MQTT, in memory.
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

    /// Runs `work` while no other picture is being decoded. Blocks.
    pub fn alone<T>(&self, work: impl FnOnce() -> T) -> T {
        let _alone = self.newest();
        work()
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
    use image::{ImageBuffer, ImageEncoder as _, Rgb, RgbImage};

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
    fn a_rendition_has_the_width_that_was_requested_and_fewer_bytes_than_the_picture() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let picture = encoded(&noise(1344, 756), format);
            for width in RenditionWidth::ALL {
                let jpeg = render_width(&picture, RenditionWidth::new(width).unwrap()).unwrap();
                assert_eq!(check(&jpeg), Ok(ImageType::Jpeg));
                let rendition = image::load_from_memory(&jpeg).unwrap();
                assert_eq!((rendition.width(), rendition.height()), (width, width * 9 / 16));
                assert!(jpeg.len() < picture.len());
            }
        }
    }

    #[test]
    fn a_picture_that_is_not_wider_or_already_smaller_has_no_rendition_of_that_width() {
        let width = RenditionWidth::new(192).unwrap();
        assert_eq!(render_width(&encoded(&noise(192, 900), ImageFormat::Png), width), None);
        assert!(render_width(&encoded(&noise(193, 900), ImageFormat::Png), width).is_some());
        let plain = RgbImage::from_pixel(193, 100, Rgb([7, 7, 7]));
        assert_eq!(render_width(&encoded(&plain, ImageFormat::Png), width), None, "it is smaller as a PNG");
        assert_eq!(render_width(samples::PNG, width), None, "it is damaged");
        assert_eq!(RenditionWidth::new(200), None);
    }

    /// A picture whose metadata has it turned by 90 degrees: its width is the height of the pixels.
    #[test]
    fn the_width_of_a_turned_picture_is_that_of_what_people_see() {
        let mut turned = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut turned, 90);
        // Exif with one entry: the orientation (0x0112), a short, is 6.
        let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        noise(400, 180).write_with_encoder(encoder).unwrap();
        assert_eq!(render_width(&turned, RenditionWidth::new(192).unwrap()), None, "180 pixels wide");
        let mut turned = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut turned, 90);
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        noise(100, 400).write_with_encoder(encoder).unwrap();
        let jpeg = render_width(&turned, RenditionWidth::new(192).unwrap()).unwrap();
        let rendition = image::load_from_memory(&jpeg).unwrap();
        assert_eq!((rendition.width(), rendition.height()), (192, 48));
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
        assert_eq!(render_width(&bomb, RenditionWidth::new(192).unwrap()), None);
    }

    /// Decoding needs memory for each pixel, however few bytes the decoded pixels take.
    #[test]
    fn the_limit_of_pixels_applies_to_gray_pictures_too() {
        let mut bytes = Cursor::new(Vec::new());
        image::GrayImage::new(8, 8).write_to(&mut bytes, ImageFormat::Png).unwrap();
        let mut gray = bytes.into_inner();
        let mut is_decoded = |width: u32, height: u32| {
            gray[16..20].copy_from_slice(&width.to_be_bytes());
            gray[20..24].copy_from_slice(&height.to_be_bytes());
            // The header is followed by its checksum.
            let checksum = crc32(&gray[12..29]);
            gray[29..33].copy_from_slice(&checksum.to_be_bytes());
            decoder(&gray).is_some()
        };
        assert!(is_decoded(5000, 4000), "20 megapixels");
        assert!(!is_decoded(5000, 5000) && !is_decoded(8000, 8000));
    }

    /// The checksum of PNG.
    fn crc32(bytes: &[u8]) -> u32 {
        let add = |sum: u32, byte: &u8| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
                (sum >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(sum & 1))
            })
        };
        !bytes.iter().fold(!0, add)
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
