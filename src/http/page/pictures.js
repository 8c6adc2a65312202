// @ts-check
// The addresses of pictures and of their small renditions.

/** @import { Camera, EventRecord, PictureWidth } from "./types" */

/**
 * Adds the version of a picture, with which browsers keep it, and the width of a rendition.
 * @param {string} path
 * @param {string | null | undefined} version
 * @param {PictureWidth} [width] Without it, the address is that of the picture as it was submitted.
 */
function sized(path, version, width) {
  const query = new URLSearchParams();
  if (version) query.set("version", version);
  if (width) query.set("width", String(width));
  return query.size > 0 ? `${path}?${query}` : path;
}

/**
 * Returns the path of an event's picture, below `api/v1`.
 * @param {EventRecord} event
 * @param {PictureWidth} [width]
 */
export const picturePath = (event, width) =>
  sized(`events/${encodeURIComponent(event.event_id)}/thumbnail`, event.thumbnail_version, width);

/**
 * Returns the path of a camera's newest picture, below `api/v1`.
 * @param {Camera} camera
 * @param {PictureWidth} [width]
 */
export const cameraPicturePath = (camera, width) =>
  sized(`cameras/${encodeURIComponent(camera.camera_id)}/thumbnail`, camera.thumbnail_version, width);
