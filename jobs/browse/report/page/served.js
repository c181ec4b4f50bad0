// Marks of a page that `vtag view` serves: it keeps them in a file.

const served = { version: "", isSaving: false, isStale: false };

// Takes the marks of the file. Those of this page go, because they were made in a page that is no longer there, unless it
// keeps them. Nothing waits between reading and replacing them, so a mark that is made in the meantime is among them.
const loadFromServer = async ({ keepsOwn = false } = {}) => {
  const answer = await fetch("marks"), text = await answer.text();
  if (!answer.ok) throw new Error(text);
  const found = marks.read(text), own = keepsOwn ? marks.read(marks.csv()) : [];
  served.version = answer.headers.get("ETag");
  marks.byVideo.clear();
  for (const mark of [...found, ...own]) marks.put(...mark);
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
        await loadFromServer({ keepsOwn: true });
        for (const video of list.rows.keys()) redraw(video);
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
