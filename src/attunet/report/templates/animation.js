for (const animation of document.querySelectorAll(".animation")) {
  const [frames, slider, button] = [animation.querySelectorAll("img"), animation.querySelector("input"), animation.querySelector("button")];
  const show = () => {
    frames.forEach((frame, number) => { frame.hidden = number !== slider.valueAsNumber; });
    const label = frames[slider.valueAsNumber].alt;
    animation.querySelector("output").textContent = label;
    slider.setAttribute("aria-valuetext", label);
  };
  let timer = 0;
  const pause = () => { clearInterval(timer); timer = 0; button.textContent = "Play"; };
  const step = () => {
    slider.valueAsNumber += 1;
    show();
    if (slider.valueAsNumber === frames.length - 1) pause();
  };
  button.addEventListener("click", () => {
    if (timer) return pause();
    if (slider.valueAsNumber === frames.length - 1) { slider.valueAsNumber = 0; show(); }
    button.textContent = "Pause";
    timer = setInterval(step, 400);
  });
  slider.addEventListener("input", () => { pause(); show(); });
  slider.valueAsNumber = frames.length - 1;
  animation.querySelector(".controls").hidden = frames.length < 2;
  show();
}
