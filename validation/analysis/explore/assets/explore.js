// Callbacks of the page that run in the browser, without a request to the server.
window.dash_clientside = Object.assign({}, window.dash_clientside, {
    explore: {
        // Makes the table request its rows again after a change of the filter, the rules or the review decisions.
        refreshTable: function () {
            try {
                dash_ag_grid.getApi("table").purgeInfiniteCache();
            } catch (error) {
                // The table is not drawn yet. It will request its rows when it is drawn.
            }
            return window.dash_clientside.no_update;
        },
    },
});

// A click on a word plays the audio from the beginning of the word.
document.addEventListener("click", function (event) {
    const word = event.target.closest && event.target.closest(".word");
    const player = document.getElementById("player");
    if (word && player) {
        player.currentTime = Number(word.dataset.start);
        player.play();
    }
});

// The word that is being played is marked. Events of the player do not bubble, so they are captured.
document.addEventListener("timeupdate", function (event) {
    for (const word of document.querySelectorAll("#words .word")) {
        const at = event.target.currentTime;
        word.classList.toggle("played", at >= Number(word.dataset.start) && at < Number(word.dataset.end));
    }
}, true);
