// The theme, before anything is drawn: the one that was chosen here, else the system's.
"use strict";
{
  const chosen = localStorage.getItem("millrace.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
