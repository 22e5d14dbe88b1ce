// Whether the server answers: the page says when it does not, and goes on when it is back.

import * as api from "./api.js";
import { announce, byId, clearProblem, showProblem } from "./dom.js";

/** Seconds between two looks while it answers, and while it does not. */
const [CALM, ANXIOUS] = [15, 2];

/** Look after the server; `onBack` is called when it answers again. */
export function watchServer(onBack) {
  let [timer, lost, looking] = [null, false, false];
  const look = async () => {
    if (looking || (document.hidden && !lost)) return; // the next look is when somebody sees the page
    looking = true;
    clearTimeout(timer);
    const lives = await api.lives();
    looking = false;
    if (lives && lost) {
      if (byId("problem").dataset.lost) clearProblem();
      announce("The server answers again");
      lost = false;
      onBack();
    } else if (!lives && !lost) {
      lost = true;
      showProblem(new api.LostProblem("this page continues when the server is back"));
    }
    timer = setTimeout(look, 1000 * (lost ? ANXIOUS : CALM));
  };
  api.onLost(() => lost || look());
  document.addEventListener("visibilitychange", look);
  addEventListener("online", look);
  timer = setTimeout(look, 1000 * CALM);
}
