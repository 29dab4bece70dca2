// What is sent: the camera, if it is wanted and allowed, or a test picture.

/** `{stream, note}`; without a stream only messages are sent. */
export async function picture(wantsCamera) {
  if (wantsCamera) {
    try {
      const video = { width: { ideal: 640 }, height: { ideal: 360 } };
      return { stream: await navigator.mediaDevices.getUserMedia({ video }), note: null };
    } catch {
      return { stream: drawn(), note: "The camera may not be used, so a test picture is sent." };
    }
  }
  return { stream: drawn(), note: null };
}

export const hasCamera = () => Boolean(navigator.mediaDevices?.getUserMedia);

/** Ends what `picture` has begun. */
export function release(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

function drawn() {
  const canvas = document.createElement("canvas");
  if (!canvas.captureStream) return null;
  [canvas.width, canvas.height] = [640, 360];
  const pen = canvas.getContext("2d");
  const draw = () => {
    const now = Date.now();
    pen.fillStyle = `hsl(${(now / 50) % 360} 45% 30%)`;
    pen.fillRect(0, 0, 640, 360);
    pen.fillStyle = "#fff8";
    pen.fillRect(((now / 8) % 720) - 80, 0, 80, 360);
    pen.fillStyle = "#fff";
    pen.font = "48px monospace";
    pen.fillText(new Date(now).toISOString().slice(11, 21), 185, 195);
  };
  draw();
  const stream = canvas.captureStream(15);
  const timer = setInterval(() => {
    if (stream.getVideoTracks()[0]?.readyState === "live") draw();
    else clearInterval(timer);
  }, 66);
  return stream;
}
