// @ts-check
// The picture of the sample event: a house with a person at the door, drawn here so that the page needs no file for it.

const WIDTH = 640;
const HEIGHT = 360;

/** @typedef {CanvasRenderingContext2D} Drawing */

/** @param {Drawing} drawing */
function drawHouse(drawing) {
  const sky = drawing.createLinearGradient(0, 0, 0, HEIGHT);
  sky.addColorStop(0, "#7fb2e5");
  sky.addColorStop(0.7, "#dcebf8");
  drawing.fillStyle = sky;
  drawing.fillRect(0, 0, WIDTH, HEIGHT);
  drawing.fillStyle = "#5b8c4a";
  drawing.fillRect(0, 260, WIDTH, 100);
  drawing.fillStyle = "#d8cfc2";
  drawing.fillRect(190, 110, 330, 180);
  drawing.fillStyle = "#8c4b3c";
  drawing.beginPath();
  drawing.moveTo(160, 115);
  drawing.lineTo(355, 30);
  drawing.lineTo(550, 115);
  drawing.fill();
  drawing.fillStyle = "#3f5873";
  drawing.fillRect(225, 150, 70, 60);
  drawing.fillRect(425, 150, 70, 60);
  drawing.fillStyle = "#54352a";
  drawing.fillRect(325, 175, 65, 115);
  drawing.fillStyle = "#b9b4ab";
  drawing.beginPath();
  drawing.moveTo(325, 290);
  drawing.lineTo(390, 290);
  drawing.lineTo(450, HEIGHT);
  drawing.lineTo(250, HEIGHT);
  drawing.fill();
}

/** @param {Drawing} drawing */
function drawPerson(drawing) {
  drawing.fillStyle = "#e3b594";
  drawing.beginPath();
  drawing.arc(300, 205, 14, 0, 2 * Math.PI);
  drawing.fill();
  drawing.fillStyle = "#b3202c";
  drawing.fillRect(282, 220, 36, 56);
  drawing.fillStyle = "#26303c";
  drawing.fillRect(284, 276, 14, 44);
  drawing.fillRect(303, 276, 14, 44);
  drawing.fillStyle = "#b98b52";
  drawing.fillRect(314, 240, 28, 24);
  drawing.strokeStyle = "#ffd54a";
  drawing.lineWidth = 3;
  drawing.strokeRect(266, 182, 88, 146);
}

/** Returns the picture as a `data:` URL. */
export function samplePicture() {
  const canvas = document.createElement("canvas");
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  const drawing = canvas.getContext("2d");
  if (drawing) {
    drawHouse(drawing);
    drawPerson(drawing);
  }
  return canvas.toDataURL("image/jpeg", 0.85);
}
