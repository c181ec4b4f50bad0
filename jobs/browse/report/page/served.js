// Marks of a page that `vtag view` serves: it keeps them in a file.

const served = { version: "", isSaving: false, isStale: false };

const loadFromServer = async () => {
  const answer = await fetch("marks");
  if (!answer.ok) return;
  served.version = answer.headers.get("ETag");
  const text = await answer.text();
  // The file counts. What the browser has beside it was marked in a page that is no longer there.
  marks.byVideo.clear();
  marks.load(text);
};

// Saves one after the other. If another page has saved since, its marks are read first, and those of this page stay.
const saveToServer = async () => {
  if (served.isSaving) { served.isStale = true; return; }
  served.isSaving = true;
  try {
    do {
      served.isStale = false;
      const body = marks.csv();
      const answer = await fetch("marks", { method: "PUT", body, headers: { "If-Match": served.version, "Content-Type": "text/csv" } });
      if (answer.status === 412) {
        const own = body;
        await loadFromServer();
        marks.load(own);
        served.isStale = true;
      } else if (answer.ok) served.version = answer.headers.get("ETag");
      else throw new Error(await answer.text());
    } while (served.isStale);
    marks.unsaved = 0;
  } catch (error) {
    byId("mark-count").textContent = `Marks are not saved: ${error.message}`;
    return;
  } finally {
    served.isSaving = false;
  }
  drawMarkTools();
};
